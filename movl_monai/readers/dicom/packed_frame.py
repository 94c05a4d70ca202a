"""Frames of native bytes: uncompressed grey, deflated, and run lengths of packed single bits."""

from __future__ import annotations

import zlib
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from movl_monai.readers.dicom.layout import PixelLayout

__all__ = ["decode_deflated", "decode_packed_bits", "decoder_options", "is_plain", "read_plain_frame"]

_LITTLE_ENDIAN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def decoder_options(layout: PixelLayout, photometric: str, *, frames: int) -> dict[str, Any]:
    """Return the options of ``pydicom.pixels.Decoder.as_array``.

    Args:
        layout: of the pixel data.
        photometric: photometric interpretation, which can differ from the header.
        frames: number of frames in the decoder's input.
    """
    return {
        "transfer_syntax_uid": layout.transfer_syntax,
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": frames,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": photometric,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "pixel_keyword": layout.keyword,
    }


def decode_deflated(encoded: bytes, layout: PixelLayout) -> tuple[np.ndarray, str]:
    """Inflate one frame of Deflated Image Frame Compression, at most to its size by the header.

    Args:
        encoded: the deflated frame, possibly with a byte of padding.
        layout: of the frame.

    Returns:
        Stored values (H, W) or (H, W, 3), and the photometric interpretation.

    Raises:
        ValueError: if the inflated size differs from ``layout``.
        zlib.error: if the data is damaged.

    Reference:
        DICOM PS3.5 A.4.13 and 8.2.16.
    """
    size = _frame_bytes(layout)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    # two bytes more: one for the padding to an even length, one to notice excess data
    data = inflater.decompress(encoded, size + 2)
    if not size <= len(data) <= size + size % 2:
        raise ValueError("the frame inflates to another size than its header says")
    native = replace(layout, transfer_syntax=ExplicitVRLittleEndian)
    options = decoder_options(native, layout.photometric, frames=1)
    options["pixel_vr"] = "OW" if layout.bits_allocated > 8 else "OB"
    values, properties = get_decoder(ExplicitVRLittleEndian).as_array(BytesIO(data), index=0, raw=True, **options)
    return values, str(properties["photometric_interpretation"])


def decode_packed_bits(encoded: bytes, layout: PixelLayout, plugin: str) -> tuple[np.ndarray, str]:
    """Decode run lengths of bytes that hold eight pixels of one bit each, the first in the lowest bit.

    Args:
        encoded: the compressed frame.
        layout: of the frame; 1 bit allocated.
        plugin: pydicom's name of the decoder.

    Returns:
        Stored values (H, W), 0 and 1, and the photometric interpretation.

    Raises:
        Exception: any error of the decoder; it refuses a frame of another size.

    Reference:
        DICOM PS3.5 8.2.2, G and 8.1.1.
    """
    as_bytes = replace(layout, rows=1, columns=_frame_bytes(layout), bits_allocated=8, bits_stored=8)
    values, _ = get_decoder(RLELossless).as_array(
        encapsulate([encoded], has_bot=False),
        index=0,
        raw=True,
        decoding_plugin=plugin,
        **decoder_options(as_bytes, layout.photometric, frames=1),
    )
    bits = np.unpackbits(values.ravel(), count=layout.rows * layout.columns, bitorder="little")
    return bits.reshape(layout.rows, layout.columns), layout.photometric


def _frame_bytes(layout: PixelLayout) -> int:
    return -(-layout.rows * layout.columns * layout.samples * layout.bits_allocated // 8)


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
