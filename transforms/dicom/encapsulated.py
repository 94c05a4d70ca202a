"""Compressed pixel data: find the bytes of one frame, and check them before a decoder sees them."""

from __future__ import annotations

import struct
from typing import BinaryIO

from movl_monai.transforms.dicom.flags import Flags
from movl_monai.transforms.dicom.header import ParsedFile, PixelElement
from movl_monai.transforms.dicom.layout import PixelLayout
from movl_monai.transforms.dicom.source import remaining_bytes
from movl_monai.transforms.dicom.tags import values
from movl_monai.transforms.errors import MedicalImageError
from pydicom.encaps import get_frame

__all__ = ["codestream_size", "encoded_frame"]

_ITEM, _SEQUENCE_DELIMITER = 0xE000FFFE, 0xE0DDFFFE  # (FFFE,E000) and (FFFE,E0DD) as little-endian words
_CODESTREAM_OF_JPEG_2000 = b"\xff\x4f\xff\x51"


def encoded_frame(file: ParsedFile, pixels: PixelElement, layout: PixelLayout, frame: int, flags: Flags) -> bytes:
    """Return the compressed bytes of one frame.

    Raises:
        MedicalImageError: ``reason="truncated"`` if an item ends beyond the file or the frame is not there,
            ``"bad_header"`` if the data is not encapsulated, or its own size contradicts Rows and Columns.

    Reference:
        DICOM PS3.5 A.4.
    """
    file.data.seek(pixels.offset)
    # a stated length is wrong but harmless where there are items all the same
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
    _check_size(encoded, layout)
    if encoded[:2] == b"\xff\xd8" and b"\xff\xd9" not in encoded[-16:]:
        flags.add("no_end_marker")
    return encoded


def codestream_size(encoded: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 codestream states, None where it states none.

    Example:
        >>> codestream_size(b"\\xff\\xd8\\xff\\xc0\\x00\\x0b\\x08\\x00\\x10\\x00\\x20\\x01\\x01\\x11\\x00")
        (16, 32)
    """
    if encoded[:2] == b"\xff\xd8":
        return _jpeg_size(encoded)
    start = encoded.find(_CODESTREAM_OF_JPEG_2000, 0, 4096)
    if start < 0 or len(encoded) < start + 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", encoded[start + 8 : start + 24])
    return bottom - top, right - left


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        # start of frame: C0...CF without the tables C4, C8, CC; F7 for JPEG-LS
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">HH", encoded[position + 5 : position + 9])
            return (rows, columns) if rows else None
        position += 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
    return None


def _check_size(encoded: bytes, layout: PixelLayout) -> None:
    """Refuse a codestream that would decode to another, possibly huge, size."""
    size = codestream_size(encoded)
    if size is not None and size != (layout.rows, layout.columns):
        raise MedicalImageError(
            f"Rows and Columns are {layout.rows} x {layout.columns}, the compressed frame says {size[0]} x {size[1]}; "
            "export the file again.",
            reason="bad_header",
        )


def _check_items(file: BinaryIO, flags: Flags) -> None:
    """Walk over the items: each must lie within the file."""
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
