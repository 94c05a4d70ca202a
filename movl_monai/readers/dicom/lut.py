"""Lookup tables (Modality LUT, VOI LUT, segmented palettes), and the modality transformation to values in a unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.uid import XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.tags import code_string, functional_group, items, number, numbers, raw_data, uid
from movl_monai.readers.errors import MedicalImageError

__all__ = ["LookupTable", "Modality", "expand_segments", "is_empty_lut", "read_lut", "read_modality"]

_LEAST_SHARE_OF_DEPTH = 1 / 4
_NOTHING: tuple[object, ...] = (None, b"", "", [])


@dataclass(frozen=True, kw_only=True)
class LookupTable:
    """Lookup table: ``first`` is the input that maps to ``entries[0]``; inputs outside map to the nearest entry.

    Args:
        first: input value of the first entry.
        entries: outputs, integers in [0, 2 ** bits - 1].
        bits: depth of the outputs.
        largest: output shown as white: the largest of the depth, or the largest entry if the depth is wrong.

    Example:
        >>> LookupTable(first=10, entries=np.array([5, 7, 9]), bits=4)(np.array([0, 11, 99]))
        array([5, 7, 9])
    """

    first: int
    entries: np.ndarray
    bits: int
    largest: int | None = None

    @property
    def white(self) -> int:
        """The output shown as white."""
        return 2**self.bits - 1 if self.largest is None else self.largest

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values of any real dtype and shape; fractions are rounded."""
        wide = np.rint(values) if values.dtype.kind == "f" else values
        index = np.clip(wide, self.first, self.first + len(self.entries) - 1).astype(np.int64) - self.first
        return self.entries[index]


def is_empty_lut(item: Dataset) -> bool:
    """Return True if an item of a sequence of tables lacks its descriptor or its entries."""
    return any(raw_data(item, keyword)[0] in _NOTHING for keyword in ("LUTDescriptor", "LUTData"))


def read_lut(item: Dataset, *, highest_input: float, flags: Flags, reason: str) -> LookupTable:
    """Read the table of an item of ModalityLUTSequence or VOILUTSequence.

    Args:
        item: holds LUTDescriptor and LUTData.
        highest_input: largest possible input; it distinguishes a negative first input from a large one.
        flags: receives anomalies.
        reason: reason code of a damaged table.

    Raises:
        MedicalImageError: if the descriptor is damaged or states more entries than there are.

    Reference:
        DICOM PS3.3 C.11.1.1 and C.11.2.1.1.
    """
    descriptor = [int(value) for value in numbers(item, "LUTDescriptor", flags)]
    if len(descriptor) != 3 or not 0 <= descriptor[0] < 2**16:
        raise MedicalImageError(
            "LUTDescriptor must be three numbers (entries, first input, bits), got something else; "
            "export the file again.",
            reason=reason,
        )
    count = descriptor[0] or 2**16  # 65536 does not fit the descriptor
    first, bits = descriptor[1], descriptor[2]
    if first >= 2**15 and first > highest_input:
        first -= 2**16  # a negative number, read as unsigned
    entries = _entries(item, count)
    if entries is None:
        raise MedicalImageError(
            f"LUTDescriptor says {count} entries, LUTData has fewer; export the file again.", reason=reason
        )
    needed = int(entries.max()).bit_length()
    if not max(1, needed) <= bits <= 16:
        flags.add("wrong_lut_depth")
        bits = max(8, needed)
    largest = int(entries.max())
    if 0 < largest < _LEAST_SHARE_OF_DEPTH * 2**bits:
        # 12 or 8 bits declared as 16: by the stated depth they would be nearly black
        flags.add("wrong_lut_depth")
        return LookupTable(first=first, entries=entries, bits=bits, largest=largest)
    return LookupTable(first=first, entries=entries, bits=bits)


def _entries(item: Dataset, count: int) -> np.ndarray | None:
    """Return the entries as int32; None if there are too few.

    The raw bytes are used if available: US data would become a list of 65536 Python numbers. Entries of 8 bits may be
    packed, two to a word.
    """
    data, byte_order = raw_data(item, "LUTData")
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], dtype=f"{byte_order}u2")
    else:
        words = np.atleast_1d(np.asarray(data if data is not None else [], dtype=np.int64)).astype("<u2")
    if len(words) >= count:
        return words[:count].astype(np.int32)
    packed = words.astype("<u2").view(np.uint8)
    return packed[:count].astype(np.int32) if len(packed) >= count else None


def expand_segments(words: np.ndarray, *, count: int, is_16_bit: bool) -> np.ndarray:
    """Return the entries of a segmented table.

    Args:
        words: the segments, uint8 or uint16.
        count: number of entries in the descriptor; expansion stops there.
        is_16_bit: width of the words, which decides the form of an indirect segment's offset.

    Raises:
        MedicalImageError: if a segment is unknown, cut, refers outside the data or to another indirect segment, or the
            first one is not discrete (``reason="bad_palette"``).

    Reference:
        DICOM PS3.3 C.7.9.2.

    Example:
        >>> expand_segments(np.array([0, 1, 10, 1, 2, 30], dtype=np.uint8), count=3, is_16_bit=False)
        array([10, 20, 30])
    """
    entries: list[int] = []
    data = words.tolist()
    position = 0
    try:
        # the last word may be padding
        while position + 2 < len(data) + 1 and len(entries) < count:
            if data[position] == 2:
                segments, offset, position = _indirect(data, position, is_16_bit=is_16_bit)
                for _ in range(segments):
                    offset = _append(data, offset, entries)
                    if len(entries) >= count:
                        break
            else:
                position = _append(data, position, entries)
    except (IndexError, ValueError):
        raise MedicalImageError(
            "The segmented palette has a segment that cannot be expanded; export the file again.", reason="bad_palette"
        ) from None
    return np.asarray(entries[:count])


def _append(data: list[int], position: int, entries: list[int]) -> int:
    """Expand one discrete (0) or linear (1) segment; return the position after it."""
    kind, length = data[position], data[position + 1]
    if kind == 0 and length:
        entries.extend(data[position + 2 : position + 2 + length])
        return position + 2 + length
    if kind == 1 and entries and length:
        start, end = entries[-1], data[position + 2]
        entries.extend(np.rint(np.linspace(start, end, length + 1)[1:]).astype(int).tolist())
        return position + 3
    raise ValueError("not a segment that can stand here")


def _indirect(data: list[int], position: int, *, is_16_bit: bool) -> tuple[int, int, int]:
    """Return the number of segments, the position of the first, and the position after the indirect segment (2)."""
    segments = data[position + 1]
    low_to_high = data[position + 2 : position + 4] if is_16_bit else data[position + 2 : position + 6]
    word_bits, word_bytes = (16, 2) if is_16_bit else (8, 1)
    offset = sum(word << (word_bits * index) for index, word in enumerate(low_to_high))
    return segments, offset // word_bytes, position + 2 + len(low_to_high)


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Modality transformation of one frame: a table, or ``slope * stored + intercept``.

    Args:
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        unit: RescaleType ("HU"), "" if it is not stated.
        lut: the table, which replaces slope and intercept.
        is_stated: whether the file states a transformation.
    """

    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    lut: LookupTable | None = None
    is_stated: bool = False

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Return the values in their unit: float32 if that is exact, else float64."""
        if self.lut is not None:
            return self.lut(stored).astype(np.float32)
        values = stored.astype(np.float32 if self._fits_float32(stored.dtype) else np.float64)
        if self.slope != 1:
            np.multiply(values, self.slope, out=values)
        if self.intercept != 0:
            np.add(values, self.intercept, out=values)
        return values

    def range(self, layout: PixelLayout) -> tuple[float, float]:
        """Return the smallest and largest value of the stored bits, or of the depth of the table."""
        if self.lut is not None:
            return 0.0, float(self.lut.white)
        ends = [self.slope * end + self.intercept for end in layout.stored_range]
        return min(ends), max(ends)

    def _fits_float32(self, dtype: np.dtype) -> bool:
        if dtype == np.float32:
            return self.slope == 1 and self.intercept == 0
        whole = self.slope == int(self.slope) and self.intercept == int(self.intercept)
        largest = 2**16 * abs(self.slope) + abs(self.intercept)
        return dtype.itemsize <= 2 and whole and largest < 2**24


def read_modality(header: FileDataset, layout: PixelLayout, frame: int, flags: Flags) -> Modality:
    """Read the modality transformation of a frame; functional groups take precedence over the tags of the whole file.

    Args:
        header: header of the file.
        layout: of the pixel data.
        frame: index of the frame, from 0.
        flags: receives missing and empty tags replaced by defaults.

    Raises:
        MedicalImageError: if RescaleSlope is 0, or the Modality LUT is damaged (``reason="bad_rescale"``).

    Reference:
        DICOM PS3.3 C.11.1 and C.7.6.16.2.9.
    """
    group = functional_group(header, "PixelValueTransformationSequence", frame)
    if group is not None and any(tag in group for tag in ("RescaleSlope", "RescaleIntercept")):
        return _rescale(group, flags)
    has_transformation = any(tag in header for tag in ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"))
    if has_transformation and _gives_x_ray_intensity(header):
        flags.add("modality_lut_not_for_display")
        return Modality()
    stated = items(header, "ModalityLUTSequence", flags)
    tables = [item for item in stated if not is_empty_lut(item)]
    if len(tables) < len(stated):
        flags.add("empty", "ModalityLUTSequence")
    if tables:
        lut = read_lut(tables[0], highest_input=layout.stored_range[1], flags=flags, reason="bad_rescale")
        return Modality(lut=lut, unit=code_string(tables[0], "ModalityLUTType"), is_stated=True)
    return _rescale(header, flags)


def _rescale(dataset: Dataset, flags: Flags) -> Modality:
    slope = number(dataset, "RescaleSlope", flags)
    intercept = number(dataset, "RescaleIntercept", flags)
    if slope == 0:
        raise MedicalImageError(
            "RescaleSlope must not be 0, which makes every pixel the same; correct the tag or leave the file out.",
            reason="bad_rescale",
        )
    if (slope is None) != (intercept is None):
        flags.add("inferred", "RescaleSlope" if slope is None else "RescaleIntercept")
    return Modality(
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        unit=code_string(dataset, "RescaleType"),
        is_stated=slope is not None or intercept is not None,
    )


def _gives_x_ray_intensity(header: FileDataset) -> bool:
    """Return True if the transformation leads from display values back to X-ray intensity, PS3.3 C.8.7.1.1.2.

    As in dcmtk, it is then left out for these classes, whatever PixelIntensityRelationship states.
    """
    return uid(header, "SOPClassUID") in (XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage)
