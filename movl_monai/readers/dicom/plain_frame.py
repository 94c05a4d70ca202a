"""Read uncompressed grey frames, the most frequent kind, without pydicom's decoders."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from movl_monai.readers.dicom.layout import PixelLayout

__all__ = ["is_plain", "read_plain_frame"]

_LITTLE_ENDIAN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def is_plain(layout: PixelLayout) -> bool:
    """Return True if frames are one little-endian integer per pixel; pydicom decodes the rest."""
    return (
        layout.transfer_syntax in _LITTLE_ENDIAN
        and layout.keyword == "PixelData"
        and layout.samples == 1
        and layout.bits_allocated in (8, 16, 32)
    )


def read_plain_frame(data: BinaryIO, offset: int, layout: PixelLayout, frame: int) -> np.ndarray:
    """Return the stored values of one frame; bits above HighBit, once used for overlays, are removed.

    Args:
        data: the bytes of the file, already checked for length.
        offset: position of the first frame.
        layout: of plain pixel data.
        frame: index of the frame, from 0.

    Returns:
        Integers (H, W), signed or unsigned as in the file.

    Reference:
        DICOM PS3.5 8.1.1.
    """
    dtype = np.dtype(f"<{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}")
    size = layout.rows * layout.columns * dtype.itemsize
    data.seek(offset + frame * size)
    values = np.frombuffer(data.read(size), dtype).reshape(layout.rows, layout.columns)
    unused = layout.bits_allocated - (layout.high_bit + 1)
    # nearly all files have the right value in these bits, and checking is faster than setting them
    if unused and not _fits(values, layout):
        return (values << unused) >> unused
    return values


def _fits(values: np.ndarray, layout: PixelLayout) -> bool:
    bits = layout.high_bit + 1
    if layout.signed:
        return bool(values.min() >= -(2 ** (bits - 1)) and values.max() < 2 ** (bits - 1))
    return bool(values.max() < 2**bits)
