"""Compressed pixel data: locate the bytes of one frame, and check them before decoding."""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.encaps import get_frame

from movl_monai.readers.dicom.codestream import Codestream, check_codestream
from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.header import ParsedFile, PixelElement
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.source import remaining_bytes
from movl_monai.readers.dicom.tags import values
from movl_monai.readers.errors import MedicalImageError

__all__ = ["encoded_frame"]

_ITEM, _SEQUENCE_DELIMITER = 0xE000FFFE, 0xE0DDFFFE  # (FFFE,E000) and (FFFE,E0DD) as little-endian words


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
