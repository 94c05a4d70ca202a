"""One frame of a file: stored values, and values in their unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import FileDataset

from movl_monai.readers.dicom.codes import sop_class_name
from movl_monai.readers.dicom.decode import decode_frame
from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.header import ParsedFile, PixelElement, Source, open_source, parse
from movl_monai.readers.dicom.layout import PixelLayout, pixel_layout
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.lut import Modality, read_modality
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.tags import number
from movl_monai.readers.dicom.visible import object_problem
from movl_monai.readers.errors import MedicalImageError

__all__ = ["ModalityFrame", "StoredFrame", "modality_values", "padding_mask", "stored_values"]

_KEYWORDS = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}


def padding_mask(header: FileDataset, layout: PixelLayout, stored: np.ndarray, flags: Flags) -> np.ndarray | None:
    """Return a mask of the padding pixels.

    Args:
        header: header of the file.
        layout: of the pixel data.
        stored: stored values (H, W), before any rescaling.
        flags: receives damaged tags.

    Returns:
        bool (H, W), or None if no pixel is padding.

    Reference:
        DICOM PS3.3 C.7.5.1.1.2.
    """
    value_keyword, limit_keyword = _KEYWORDS[layout.keyword]
    value = number(header, value_keyword, flags)
    if value is None:
        return None
    limit = number(header, limit_keyword, flags)
    first = _as_stored(value, layout)
    last = first if limit is None else _as_stored(limit, layout)
    mask = stored == first if first == last else (stored >= min(first, last)) & (stored <= max(first, last))
    return mask if mask.any() else None


def _as_stored(value: float, layout: PixelLayout) -> float:
    """Correct a padding value that was written or read with the wrong sign convention: 63536 for -2000."""
    low, high = (-np.inf, np.inf) if layout.is_float else layout.stored_range
    if value > high and layout.signed:
        return value - 2**16
    if value < low:
        return value + 2**16
    return value


@dataclass(frozen=True, kw_only=True)
class StoredFrame:
    """One decoded frame.

    Args:
        values: (H, W) or (H, W, 3), in the dtype of the file.
        photometric: photometric interpretation after decoding.
        decoder: name of the decoder.
        index: index of the frame, from 0.
        header: header of the file; it carries patient data.
        layout: of the pixel data.
        flags: anomalies so far.
    """

    values: np.ndarray
    photometric: str
    decoder: str
    index: int
    header: FileDataset
    layout: PixelLayout
    flags: Flags


@dataclass(frozen=True, kw_only=True)
class ModalityFrame:
    """One grey frame in its unit.

    Args:
        values: float32 or float64 (H, W), in HU for CT.
        padding: bool (H, W), True for pixels that were not measured; None if all were.
        modality: the transformation that was applied.
    """

    values: np.ndarray
    padding: np.ndarray | None
    modality: Modality


@quiet()
def stored_values(
    source: Source,
    *,
    frame: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> StoredFrame:
    """Decode one frame of a DICOM file to its stored values.

    Args:
        source: path of a regular file, or a seekable binary file object.
        frame: index of the frame, from 0; optional for a file with one frame.
        limits: upper limits on the sizes that the file may declare.

    Raises:
        MedicalImageError: if the frame does not exist or cannot be decoded; ``reason`` says why.
    """
    flags = Flags()
    with open_source(source) as opened:
        file = parse(opened, limits=limits)
        pixels = _image_pixels(file)
        layout = pixel_layout(file.header, keyword=pixels.keyword, flags=flags, limits=limits)
        index = _frame_index(frame, layout.frames)
        decoded = decode_frame(file, pixels, layout, index, flags)
    return StoredFrame(
        values=decoded.values,
        photometric=decoded.photometric,
        decoder=decoded.decoder,
        index=index,
        header=file.header,
        layout=decoded.layout,
        flags=flags,
    )


@quiet()
def modality_values(stored: StoredFrame) -> ModalityFrame:
    """Return a grey frame in its unit, with its padding.

    Raises:
        MedicalImageError: if the frame is not grey (``reason="unsupported_photometric"``), or its modality
            transformation cannot be applied (``reason="bad_rescale"``).
    """
    if not stored.layout.is_grey:
        raise MedicalImageError(
            f"Only grey frames have values with a unit, this one is {stored.layout.photometric}; "
            "read it as a colour image.",
            reason="unsupported_photometric",
        )
    modality = read_modality(stored.header, stored.layout, stored.index, stored.flags)
    padding = padding_mask(stored.header, stored.layout, stored.values, stored.flags)
    return ModalityFrame(values=modality(stored.values), padding=padding, modality=modality)


def _image_pixels(file: ParsedFile) -> PixelElement:
    """Return the position of the pixel data; refuse objects that are not images."""
    name = sop_class_name(file.header)
    if file.pixels is None:
        raise MedicalImageError(
            f"Expected an image, got an object without pixel data ({name}); leave it out.", reason="not_image"
        )
    problem = object_problem(file.header, has_pixels=True)
    if problem == "segmentation":
        raise MedicalImageError(
            f"Expected an image, got a label mask ({name}); read it with LoadSegmentation.", reason=problem
        )
    if problem:
        raise MedicalImageError(
            f"Expected an image of tissue, got one that shows the label of its slide ({name}); leave it out.",
            reason=problem,
        )
    return file.pixels


def _frame_index(frame: int | None, count: int) -> int:
    if frame is None:
        if count > 1:
            raise MedicalImageError(
                f"The file has {count} frames; choose one with frame=0...{count - 1}.", reason="multi_frame"
            )
        return 0
    if not 0 <= frame < count:
        raise MedicalImageError(f"frame must be in 0...{count - 1}, got {frame}.", reason="bad_frame")
    return frame
