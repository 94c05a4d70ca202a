"""JPEG with 12 bits per sample, which pydicom's own decoders do not read."""

from __future__ import annotations

import numpy as np
from movl_monai.transforms.dicom.layout import PixelLayout

__all__ = ["decode_jpeg_12_bit"]


def decode_jpeg_12_bit(encoded: bytes, layout: PixelLayout) -> np.ndarray:
    """Decode one grey JPEG frame of 9 to 12 bits with GDCM, from memory.

    Args:
        encoded: the compressed frame.
        layout: what it holds; 16 bits allocated, one sample per pixel.

    Returns:
        Stored values (H, W), uint16 or int16.

    Raises:
        ImportError: if python-gdcm is not installed.
        ValueError: if it does not decode to that many values.
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())

    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    # grey is grey: MONOCHROME1 is handled after decoding
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(str(layout.transfer_syntax))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, layout.bits_stored, layout.bits_stored - 1, int(layout.signed)))

    # GDCM hands out bytes as text
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    values = np.frombuffer(decoded, dtype="<i2" if layout.signed else "<u2")
    return values.reshape(layout.rows, layout.columns)
