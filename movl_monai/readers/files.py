"""Open image files safely, regular files only, and recognise their format by their first bytes."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal

from movl_monai.readers.errors import MedicalImageError

__all__ = ["RASTER_FORMATS", "ImageFormat", "Source", "open_source", "sniff_format"]

Source = str | os.PathLike[str] | BinaryIO
"""A path, or a seekable binary file object, which is read from its beginning and stays open."""
ImageFormat = Literal["dicom", "nifti", "nifti_pair", "png", "jpeg", "tiff", "bmp", "webp", "gif", "unknown"]
RASTER_FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "tiff", "bmp", "webp", "gif")
"""The formats that :func:`movl_monai.readers.read_raster` reads."""
_HEAD_BYTES = 1024
_LONGEST_NIFTI_HEADER = 540
_MOST_COMPRESSED = 2**16
_GZIP = b"\x1f\x8b"
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)
# PS3.5 section 7.1.2: these have a length of 32 bits, the others one of 16
_LONG_REPRESENTATIONS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_REPRESENTATIONS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_FIRST_GROUPS = (0x0002, 0x0008)


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading, at its beginning.

    Args:
        source: path, or seekable binary file object.

    Yields:
        The binary file. It is closed at the end if it was opened here; a given file object stays open.

    Raises:
        MedicalImageError: ``not_regular_file`` or ``empty_file``.
    """
    if isinstance(source, (str, os.PathLike)):
        with _open_regular(source) as file:
            yield _not_empty(file)
    else:
        yield _not_empty(source)


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        # checked before opening, since opening a device can act on it ...
        _require_regular(os.stat(path).st_mode)
        # ... and again on the open file; without O_NONBLOCK a pipe put there in between would hang
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        if isinstance(error, MedicalImageError):
            raise
        reason = error.strerror if isinstance(error, OSError) else "the path is not valid"
        # `from None`: the original message names the path, which may name the patient
        raise MedicalImageError(
            f"Expected a file that can be opened, got: {reason}; check the path and its permissions.",
            reason="not_regular_file",
        ) from None
    try:
        _require_regular(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
    raise MedicalImageError(
        f"Expected a regular file, got {kind}; name the image files themselves.", reason="not_regular_file"
    )


def _not_empty(file: BinaryIO) -> BinaryIO:
    if file.seek(0, os.SEEK_END) == 0:
        raise MedicalImageError("Expected an image file, got one with 0 bytes; copy it again.", reason="empty_file")
    file.seek(0)
    return file


def sniff_format(source: Source) -> ImageFormat:
    """Detect the format of an image file from its bytes.

    A DICOM file has ``DICM`` after the preamble or, without preamble, a plausible first data element of group 0002 or
    0008. Gzip counts as NIfTI if it contains a NIfTI header; only its first bytes are decompressed.

    Args:
        source: path of a regular file, or a seekable binary file object.

    Returns:
        ``"nifti"`` for .nii and .nii.gz, ``"nifti_pair"`` for the header of a .hdr/.img pair, ``"unknown"`` for all
        formats that this library does not read.

    Raises:
        MedicalImageError: if the source is not a regular file (``not_regular_file``), or is empty (``empty_file``).

    Reference:
        DICOM PS3.10 section 7.1 (preamble and prefix); NIfTI-1 and NIfTI-2 header, fields ``sizeof_hdr`` and ``magic``.

    Example:
        >>> import io
        >>> sniff_format(io.BytesIO(bytes(128) + b"DICM"))
        'dicom'
        >>> sniff_format(io.BytesIO(b"name,label"))
        'unknown'
    """
    with open_source(source) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
    if head[128:132] == b"DICM":
        return "dicom"
    raster = _raster_format(head)
    if raster != "unknown":
        return raster
    if head.startswith(_GZIP):
        found = _first_inflated_bytes(head)
        if len(found) < _LONGEST_NIFTI_HEADER:
            with open_source(source) as file:
                found = _first_inflated_bytes(file.read(_MOST_COMPRESSED))
                file.seek(0)
        return _nifti_format(found)
    nifti = _nifti_format(head)
    if nifti != "unknown":
        return nifti
    return "dicom" if _starts_with_dicom_element(head) else "unknown"


def _raster_format(head: bytes) -> ImageFormat:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    # two letters alone would also match text
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    return "unknown"


def _nifti_format(head: bytes) -> ImageFormat:
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 348 in sizes:
        return {b"n+1\0": "nifti", b"ni1\0": "nifti_pair"}.get(head[344:348], "unknown")  # type: ignore[return-value]
    if 540 in sizes:
        return {b"n+2\0": "nifti", b"ni2\0": "nifti_pair"}.get(head[4:8], "unknown")  # type: ignore[return-value]
    return "unknown"


def _first_inflated_bytes(left: bytes) -> bytes:
    """Return the first decompressed bytes, from as many gzip members as needed; the first may be short or empty."""
    found = b""
    while len(found) < _HEAD_BYTES and left.startswith(_GZIP):
        member = zlib.decompressobj(wbits=31)
        try:
            found += member.decompress(left, _HEAD_BYTES - len(found))
        except zlib.error:
            break
        left = member.unused_data.lstrip(b"\0")
    return found


def _starts_with_dicom_element(head: bytes) -> bool:
    """Return True if the bytes start with a short data element of group 0002 or 0008, followed by another element."""
    for order in _BYTE_ORDERS:
        end = _element_end(head, 0, order)
        if int.from_bytes(head[:2], order) not in _FIRST_GROUPS or end is None or end > len(head):
            continue
        if end + 8 > len(head) or _element_end(head, end, order) is not None:
            return True
    return False


def _element_end(head: bytes, start: int, order: Literal["little", "big"]) -> int | None:
    """Return the offset behind the data element at ``start``; None if no element can start there."""
    if len(head) < start + 8 or not 0x0002 <= int.from_bytes(head[start : start + 2], order) <= 0x7FE0:
        return None
    representation = head[start + 4 : start + 6]
    if representation in _LONG_REPRESENTATIONS:
        field = slice(start + 8, start + 12)
    elif representation in _SHORT_REPRESENTATIONS:
        field = slice(start + 6, start + 8)
    elif order == "little":
        field = slice(start + 4, start + 8)  # implicit VR, which exists in little endian only
    else:
        return None
    length = int.from_bytes(head[field], order)
    if length == 0xFFFFFFFF:
        return len(head)  # a sequence of undefined length ends behind the head
    return None if length % 2 else field.stop + length
