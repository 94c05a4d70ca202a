"""Compressed pixel data: locate the bytes of one frame, and check them against the file's header before decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.header import ParsedFile, PixelElement, remaining_bytes
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.tags import values
from movl_monai.readers.errors import MedicalImageError

__all__ = [
    "Codestream",
    "check_codestream",
    "coded_layout",
    "color_of_frame",
    "encoded_frame",
    "read_jpeg_2000_header",
    "read_jpeg_header",
    "within_stored_bits",
]

_START_OF_JPEG_2000 = b"\xff\x4f\xff\x51"
_START_OF_SCAN = 0xDA
_RGB_IDS = (b"RGB", b"rgb")
_APPLICATIONS: dict[int, tuple[bytes, Literal["Adobe", "JFIF"]]] = {
    0xE0: (b"JFIF\0", "JFIF"),
    0xEE: (b"Adobe", "Adobe"),
}
# C0...CF without the tables C4, C8, CC; F7 is JPEG-LS
_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_ITEM, _SEQUENCE_DELIMITER = 0xE000FFFE, 0xE0DDFFFE  # (FFFE,E000) and (FFFE,E0DD) as little-endian words
_LOSSY_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
_LOSSY = (*_LOSSY_JPEG, JPEGLSNearLossless, JPEG2000, HTJ2K)
_DECODED_WHOLE = (*_LOSSY_JPEG, *JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes)
_MOST_OVERSHOOT = 0.25
"""Share of the stored range. Values further outside are not errors of lossy compression: BitsStored is wrong."""


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """Properties in the header of a compressed frame.

    Args:
        rows: pixels from top to bottom.
        columns: pixels from left to right.
        components: samples per pixel.
        precision: bits per sample.
        component_ids: one byte each, JPEG and JPEG-LS only.
        signed: samples are in two's complement, JPEG 2000 only.
        subsampled: the components differ in size, as luminance and colour differences do.
        application: JPEG marker that names the colours of the samples: "Adobe", "JFIF", or "" for none.
    """

    rows: int
    columns: int
    components: int
    precision: int
    component_ids: bytes = b""
    signed: bool = False
    subsampled: bool = False
    application: Literal["Adobe", "JFIF", ""] = ""

    @property
    def holds_rgb(self) -> bool:
        """True if the components are named R, G, B."""
        return self.component_ids in _RGB_IDS


def check_codestream(encoded: bytes, layout: PixelLayout) -> Codestream | None:
    """Refuse a compressed frame that contradicts the header of the file.

    Returns:
        The frame's own header; None for RLE and deflated frames, which have none.

    Raises:
        MedicalImageError: ``reason="decode_failed"`` if the frame has no usable header, ``"bad_header"`` if its header
            contradicts the file's.
    """
    if layout.transfer_syntax in JPEG2000TransferSyntaxes:
        codestream = read_jpeg_2000_header(encoded)
    elif layout.transfer_syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        codestream = read_jpeg_header(encoded)
    else:
        return None
    if codestream is None:
        raise MedicalImageError(
            "The header of the compressed frame is damaged or of another codec; export the file again.",
            reason="decode_failed",
        )
    found = (codestream.rows, codestream.columns, codestream.components)
    if found != (layout.rows, layout.columns, layout.samples) or codestream.precision > layout.bits_allocated:
        raise MedicalImageError(
            f"Rows, Columns, SamplesPerPixel are {layout.rows}, {layout.columns}, {layout.samples} with "
            f"{layout.bits_allocated} bits, the compressed frame says {found[0]}, {found[1]}, {found[2]} with "
            f"{codestream.precision} bits; export the file again.",
            reason="bad_header",
        )
    return codestream


def read_jpeg_header(encoded: bytes) -> Codestream | None:
    """Read the segments of a JPEG or JPEG-LS frame up to its first scan; None for damaged segments.

    If both application markers are present, Adobe's is kept.

    Reference:
        ITU-T T.81 B.2, ITU-T T.87 C.2.

    Example:
        >>> read_jpeg_header(bytes.fromhex("ffd8 ffc0000b 08 0010 0020 01 011100 ffda0008 01 0100 003f00")).precision
        8
    """
    if encoded[:2] != b"\xff\xd8":
        return None
    found, position, applications = None, 2, set[str]()
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        segment = encoded[position + 4 : position + 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")]
        if marker == _START_OF_SCAN:
            return found and replace(found, application=_application(applications))
        if marker in _APPLICATIONS and segment.startswith(_APPLICATIONS[marker][0]):
            applications.add(_APPLICATIONS[marker][1])
        if marker in _STARTS_OF_FRAME:
            # a second frame header, or a cut one
            if found is not None or len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
                return None
            precision, rows, columns, components = struct.unpack(">BHHB", segment[:6])
            found = Codestream(
                rows=rows,
                columns=columns,
                components=components,
                precision=precision,
                component_ids=segment[6::3],
                subsampled=len(set(segment[7::3])) > 1,
            )
        position += 4 + len(segment)
    return None


def _application(found: set[str]) -> Literal["Adobe", "JFIF", ""]:
    return "Adobe" if "Adobe" in found else "JFIF" if "JFIF" in found else ""


def read_jpeg_2000_header(encoded: bytes) -> Codestream | None:
    """Read the SIZ segment of a JPEG 2000 frame, also within a JP2 file; None if it is damaged.

    Reference:
        ITU-T T.800 A.5.1.
    """
    start = encoded.find(_START_OF_JPEG_2000, 0, 4096)
    if start < 0 or len(encoded) < start + 45:
        return None
    right, bottom, left, top = struct.unpack(">4I", encoded[start + 8 : start + 24])
    components = int.from_bytes(encoded[start + 40 : start + 42], "big")
    # three bytes for each component: precision, whose highest bit is the sign, and distances across and down
    sizes = encoded[start + 42 : start + 42 + 3 * components]
    return Codestream(
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(sizes[0] & 0x7F) + 1,
        signed=sizes[0] >= 0x80,
        subsampled=len({*zip(sizes[1::3], sizes[2::3], strict=False)}) > 1,
    )


def encoded_frame(
    file: ParsedFile, pixels: PixelElement, layout: PixelLayout, frame: int, flags: Flags
) -> tuple[bytes, Codestream | None]:
    """Return the compressed bytes of one frame, and its own header if its codec has one.

    Raises:
        MedicalImageError: ``reason="truncated"`` if an item ends beyond the file or the frame is missing,
            ``"bad_header"`` if the data is not encapsulated or contradicts the header, ``"decode_failed"`` if the
            frame's own header is damaged.

    Reference:
        DICOM PS3.5 A.4.
    """
    file.data.seek(pixels.offset)
    # a stated length is wrong, but harmless if items follow
    if pixels.length is not None and file.data.read(4) != _ITEM.to_bytes(4, "little"):
        raise MedicalImageError(
            "A compressed transfer syntax needs pixel data in items, this file has plain data; "
            "its transfer syntax is wrong, export the file again.",
            reason="bad_header",
        )
    file.data.seek(pixels.offset)
    _check_items(file.data, flags)
    file.data.seek(pixels.offset)
    try:
        encoded = get_frame(file.data, frame, number_of_frames=layout.frames, extended_offsets=_offsets(file))
    except Exception:
        raise MedicalImageError(
            f"Expected {layout.frames} compressed frames, frame {frame} is not there; export the file again.",
            reason="truncated",
        ) from None
    codestream = check_codestream(encoded, layout)
    if encoded[:2] == b"\xff\xd8" and b"\xff\xd9" not in encoded[-16:]:
        flags.add("no_end_marker")
    return encoded, codestream


def _check_items(file: BinaryIO, flags: Flags) -> None:
    """Check that each item lies within the file."""
    left = remaining_bytes(file)
    while left >= 8:
        tag, length = struct.unpack("<II", file.read(8))
        if tag == _SEQUENCE_DELIMITER:
            return
        left -= 8 + length
        if tag != _ITEM or left < 0:
            raise MedicalImageError(
                "The compressed pixel data ends early or is damaged; copy or export the file again.",
                reason="truncated",
            )
        file.seek(length, 1)
    flags.add("no_sequence_delimiter")


def _offsets(file: ParsedFile) -> tuple[bytes, bytes] | None:
    offsets = values(file.header, "ExtendedOffsetTable")
    lengths = values(file.header, "ExtendedOffsetTableLengths")
    if offsets and lengths and len(offsets[0]) == len(lengths[0]):
        return offsets[0], lengths[0]
    return None


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
