"""Lookup tables of the Modality LUT and VOI LUT modules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.tags import numbers, raw_data
from movl_monai.readers.errors import MedicalImageError

__all__ = ["LookupTable", "is_empty_lut", "read_lut"]

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
