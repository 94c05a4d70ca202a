"""Padding pixels, which were never measured: PixelPaddingValue and its range."""

from __future__ import annotations

import numpy as np
from pydicom import FileDataset

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.tags import number

__all__ = ["padding_mask"]

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
