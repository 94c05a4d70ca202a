"""Samples of a compressed frame whose own header contradicts the header of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
)

from movl_monai.readers.dicom.encapsulated import Codestream
from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.layout import PixelLayout

__all__ = ["coded_layout", "color_of_frame", "within_stored_bits"]

_LOSSY_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
_LOSSY = (*_LOSSY_JPEG, JPEGLSNearLossless, JPEG2000, HTJ2K)
_DECODED_WHOLE = (*_LOSSY_JPEG, *JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes)
_MOST_OVERSHOOT = 0.25
"""Share of the stored range. Values further outside are not errors of lossy compression: BitsStored is wrong."""


def coded_layout(codestream: Codestream, layout: PixelLayout, flags: Flags) -> PixelLayout:
    """Return the layout for the decoder, with the sign and depth of the compressed frame.

    Samples that are unsigned in the frame and signed by PixelRepresentation are read as two's complement, the form of
    encoders without signed samples. With fewer bits than BitsStored that is impossible, and they are read as unsigned.

    Args:
        codestream: header of the frame.
        layout: as the file states it.
        flags: receives ``sign_mismatch``.

    Reference:
        DICOM PS3.5 8.2.4; ITU-T T.800 A.5.1.
    """
    if layout.transfer_syntax in _LOSSY_JPEG and codestream.precision > layout.bits_stored:
        return replace(layout, bits_stored=codestream.precision)
    if layout.transfer_syntax in JPEG2000TransferSyntaxes and codestream.signed != layout.signed:
        flags.add("sign_mismatch")
        return replace(layout, signed=codestream.signed or codestream.precision >= layout.bits_stored)
    return layout


def color_of_frame(codestream: Codestream, layout: PixelLayout, flags: Flags) -> str:
    """Return the photometric interpretation of a JPEG frame in colour after decoding.

    Component names and Adobe's marker take precedence, then JFIF's marker, then different sizes of the components, then
    the header of the file. With Adobe's marker the decoder itself converts to RGB.

    Args:
        codestream: header of the frame.
        layout: as the file states it.
        flags: receives ``color_mismatch``.

    Reference:
        ITU-T T.871 (JFIF); ITU-T T.872 6.5.3 (Adobe's marker).
    """
    if codestream.holds_rgb or codestream.application == "Adobe":
        found = "RGB"
    elif codestream.application == "JFIF" or codestream.subsampled:
        found = "YBR_FULL"
    else:
        return layout.photometric
    if found.startswith("YBR") and layout.photometric == "RGB":
        flags.add("color_mismatch")
    return found


def within_stored_bits(
    values: np.ndarray, codestream: Codestream, layout: PixelLayout, header: Dataset, flags: Flags
) -> tuple[np.ndarray, PixelLayout]:
    """Return decoded values and their layout, for a frame whose depth differs from BitsStored.

    Args:
        values: as decoded.
        codestream: header of the frame.
        layout: as the file states it, with the sign of the values.
        header: of the file; it shows overlays in the upper bits.
        flags: receives ``lossy_overshoot`` or ``wrong_bits_stored``.
    """
    syntax = layout.transfer_syntax
    if codestream.precision <= layout.bits_stored or syntax not in _DECODED_WHOLE:
        return values, layout
    low, high = layout.stored_range
    lowest, highest = int(values.min()), int(values.max())
    if lowest >= low and highest <= high:
        return values, layout
    slack = _MOST_OVERSHOOT * (high - low)
    if syntax in _LOSSY_JPEG or (syntax in _LOSSY and lowest >= low - slack and highest <= high + slack):
        flags.add("lossy_overshoot")
        return values.clip(low, high), layout
    if _has_overlay_bits(header) or (layout.signed and lowest >= 0 and highest < 2**layout.bits_stored):
        unused = 8 * values.dtype.itemsize - layout.bits_stored
        return (values << unused) >> unused, layout
    flags.add("wrong_bits_stored")
    return values, replace(layout, bits_stored=codestream.precision)


def _has_overlay_bits(header: Dataset) -> bool:
    """Return True if overlays lie in unused bits of the pixels, PS3.5 8.1.2."""
    tags = header.keys()
    return any(0x6000 <= tag >> 16 <= 0x60FF and tag & 0xFFFF == 0x0102 and header[tag].value for tag in tags)
