"""Decoding of JPEG Lossless and 12-bit JPEG, which Pillow and pydicom's other permissive decoders do not read."""

from __future__ import annotations

import os
import struct
import tempfile

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import SecondaryCaptureImageStorage

from movl_monai.readers.dicom.encapsulated import read_jpeg_header
from movl_monai.readers.dicom.layout import PixelLayout

__all__ = ["decode_with_itk"]


def decode_with_itk(encoded: bytes, layout: PixelLayout) -> tuple[np.ndarray, str]:
    """Decode one JPEG frame with SimpleITK.

    SimpleITK receives a small file that is written here, with the frame and the tags for decoding it. It turns the
    failures of GDCM, its decoder, into exceptions; called directly, GDCM ends the whole program.

    Args:
        encoded: the compressed frame, already checked against the size in ``layout``.
        layout: of the frame.

    Returns:
        Stored values (H, W) or (H, W, 3), and the photometric interpretation.

    Raises:
        ImportError: if SimpleITK is not installed.
        RuntimeError: if it cannot decode the frame.
        ValueError: if the shape of the result differs from ``layout``.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    # closed before it is read: some systems do not open a file twice
    with tempfile.NamedTemporaryFile(suffix=".dcm", delete=False) as file:
        file.write(_single_frame(encoded, layout))
    try:
        reader.SetFileName(file.name)
        image = reader.Execute()
    finally:
        os.unlink(file.name)
    values = sitk.GetArrayFromImage(image)
    shape = (layout.rows, layout.columns, 3)[: 2 if layout.samples == 1 else 3]
    return values.reshape(shape), _photometric(encoded, layout)


def _single_frame(encoded: bytes, layout: PixelLayout) -> bytes:
    """Return a DICOM file of this frame alone; written by hand because pydicom takes half as long as the decoding."""
    syntax = _text(layout.transfer_syntax)
    meta = (
        _element(0x0002, 0x0001, "OB", b"\0\1")
        + _element(0x0002, 0x0002, "UI", _text(SecondaryCaptureImageStorage))
        + _element(0x0002, 0x0003, "UI", _text("2.25.1"))
        + _element(0x0002, 0x0010, "UI", syntax)
    )
    # ITK would invert MONOCHROME1 and convert YBR; both are done after decoding
    photometric = b"MONOCHROME2 " if layout.samples == 1 else b"RGB "
    numbers = {
        0x0010: layout.rows,
        0x0011: layout.columns,
        0x0100: layout.bits_allocated,
        0x0101: layout.bits_stored,
        0x0102: layout.bits_stored - 1,
        0x0103: int(layout.signed),
    }
    return b"".join(
        [
            bytes(128) + b"DICM" + _element(0x0002, 0x0000, "UL", len(meta).to_bytes(4, "little")) + meta,
            _element(0x0008, 0x0016, "UI", _text(SecondaryCaptureImageStorage)),
            _element(0x0008, 0x0018, "UI", _text("2.25.1")),
            _element(0x0028, 0x0002, "US", layout.samples.to_bytes(2, "little")),
            _element(0x0028, 0x0004, "CS", photometric),
            b"" if layout.samples == 1 else _element(0x0028, 0x0006, "US", bytes(2)),
            *(_element(0x0028, element, "US", number.to_bytes(2, "little")) for element, number in numbers.items()),
            struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF),
            encapsulate([encoded]),
            struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        ]
    )


def _element(group: int, element: int, vr: str, value: bytes) -> bytes:
    """Encode one element with a value of even length in Explicit VR Little Endian."""
    if vr == "OB":
        return struct.pack("<HH2sHI", group, element, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr.encode(), len(value)) + value


def _text(value: str) -> bytes:
    """Encode a UID, padded to an even length."""
    return value.encode("ascii") + b"\0" * (len(value) % 2)


def _photometric(encoded: bytes, layout: PixelLayout) -> str:
    """Return the photometric interpretation of the samples; component names R, G, B in the frame take precedence."""
    codestream = read_jpeg_header(encoded)
    if layout.samples == 3 and codestream is not None and codestream.holds_rgb:
        return "RGB"
    return layout.photometric
