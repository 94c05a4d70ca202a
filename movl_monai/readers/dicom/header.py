"""Open sources of DICOM objects, and parse their header safely, up to the pixel data."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, BytesIO
from typing import BinaryIO, TypeAlias

from pydicom import Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR

from movl_monai.readers.dicom.limits import HeaderBudget, Limits
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.tags import uid
from movl_monai.readers.errors import MedicalImageError

__all__ = [
    "ParsedFile",
    "PixelElement",
    "Source",
    "inflate",
    "is_dicom",
    "open_source",
    "parse",
    "read_header",
    "remaining_bytes",
]

_PIXEL_KEYWORDS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_PIXEL_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
_UNDEFINED_LENGTH = 0xFFFFFFFF
Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""A path of a regular file, or a seekable binary file object."""

_VALUE_REPRESENTATIONS = frozenset(str(vr).encode() for vr in VR if len(str(vr)) == 2)


@dataclass(frozen=True, kw_only=True)
class PixelElement:
    """Position of the pixel data in a file.

    Args:
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData.
        vr: its value representation, "OW" if the encoding does not state it.
        offset: position of the first byte of the value.
        length: length of the value in bytes, None for an undefined length (encapsulated).
    """

    keyword: str
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True, kw_only=True)
class ParsedFile:
    """Header, its source bytes (inflated if they were deflated), and the position of the pixel data."""

    header: FileDataset
    data: BinaryIO
    pixels: PixelElement | None


@quiet()
def read_header(source: Source, *, limits: Limits = Limits()) -> FileDataset:  # noqa: B008 - frozen
    """Read the header of a DICOM file: everything before the pixel data.

    Values are converted when they are first used, and may then fail if they are damaged.

    Args:
        source: path of a regular file, or a seekable binary file object.
        limits: largest size of an inflated data set, and of a header value.

    Returns:
        The data set, with ``file_meta``. It carries patient data: it must not reach logs or reports.

    Raises:
        MedicalImageError: if the file is not DICOM, or its header cannot be parsed; ``reason`` says why.
    """
    with open_source(source) as file:
        return parse(file, limits=limits).header


def parse(file: BinaryIO, *, limits: Limits) -> ParsedFile:
    """Parse an open file up to its pixel data.

    Raises:
        MedicalImageError: if the file is not DICOM, or its header cannot be parsed; ``reason`` says why.
    """
    file.seek(0)
    head = file.read(132)
    if not is_dicom(head):
        raise MedicalImageError(
            "Expected a DICOM file (DICM at byte 128, or a first element of group 2 or 8), got other bytes; "
            "leave the file out or convert it.",
            reason="unsupported_format",
        )
    try:
        header, data = _parse(file, has_preamble=head[128:132] == b"DICM", limits=limits)
        pixels = _pixel_element(data, header)
    except MedicalImageError:
        raise
    except Exception as error:
        # not chained: messages of the parser quote values and paths
        raise MedicalImageError(
            f"The DICOM header cannot be parsed ({type(error).__name__}); export the file again.", reason="bad_header"
        ) from None
    if pixels is None and _is_cut(header, data):
        raise MedicalImageError("The file ends within its header; copy or export it again.", reason="truncated")
    return ParsedFile(header=header, data=data, pixels=pixels)


def _parse(file: BinaryIO, *, has_preamble: bool, limits: Limits) -> tuple[FileDataset, BinaryIO]:
    file.seek(132 if has_preamble else 0)
    # inflated here, because the parser would inflate a deflated data set without limit
    meta = read_dataset(
        file,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=_stop(HeaderBudget(file, limits), lambda tag: tag >> 16 != 2),
    )
    syntax = uid(meta, "TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        data: BinaryIO = inflate(file, limits=limits)
    elif _needs_no_guess(file, syntax):
        data = file
    else:
        budget = HeaderBudget(file, limits, little_endian=_is_little_endian(file, syntax))
        file.seek(0)
        # the call inside pydicom's dcmread, with another callback
        stop = _stop(budget, _PIXEL_KEYWORDS.__contains__)
        header = read_partial(file, stop, defer_size=limits.header_value_bytes, force=True)
        return header, file
    is_implicit = syntax == ImplicitVRLittleEndian
    stop = _stop(HeaderBudget(data, limits), _PIXEL_KEYWORDS.__contains__)
    dataset = read_dataset(data, is_implicit, True, stop_when=stop, defer_size=limits.header_value_bytes)
    header = FileDataset(
        data, dataset, file_meta=FileMetaDataset(meta), is_implicit_VR=is_implicit, is_little_endian=True
    )
    header.set_original_encoding(is_implicit, True)
    return header, data


def _needs_no_guess(file: BinaryIO, syntax: UID) -> bool:
    """Return True if the encoding is known and little-endian, and group 8 comes next, as in nearly all files."""
    # is_transfer_syntax raises for a private UID
    if syntax.is_private or not syntax.is_transfer_syntax or syntax == ExplicitVRBigEndian:
        return False
    group = file.read(2)
    file.seek(-len(group), SEEK_CUR)
    return group == b"\x08\x00"


def _is_little_endian(file: BinaryIO, syntax: UID) -> bool:
    group = file.read(2)
    return syntax != ExplicitVRBigEndian and group != b"\x00\x08"


def _stop(budget: HeaderBudget, is_end: Callable[[BaseTag], bool]) -> Callable[[BaseTag, str | None, int], bool]:
    """Return the parser's callback, which stops at an element and counts the elements before it."""

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        if is_end(tag):
            return True
        budget.count(tag, vr, length)
        return False

    return stop


def _pixel_element(file: BinaryIO, header: FileDataset) -> PixelElement | None:
    """Read tag, value representation and length of the element at which the parser stopped."""
    _, is_little_endian = header.original_encoding
    endian = "<" if is_little_endian else ">"
    start = file.read(8)
    if len(start) < 8:
        return None
    group, element = struct.unpack(f"{endian}HH", start[:4])
    keyword = _PIXEL_KEYWORDS.get(group << 16 | element)
    if keyword is None:
        return None
    # the bytes decide, not the transfer syntax: some writers switch within a file, some state the wrong one. The
    # letters cannot be a length in the implicit encoding: it would be odd
    is_implicit = start[4:6] not in _PIXEL_VRS
    vr = "OW" if is_implicit else start[4:6].decode("ascii")
    length_bytes = start[4:8] if is_implicit else file.read(4)
    (length,) = struct.unpack(f"{endian}I", length_bytes)
    return PixelElement(
        keyword=keyword, vr=vr, offset=file.tell(), length=None if length == _UNDEFINED_LENGTH else length
    )


def _is_cut(header: Dataset, data: BinaryIO) -> bool:
    """Return True if the last value of a header extends beyond the end of the data."""
    if len(header) == 0:
        return True
    # unconverted: it may be damaged
    last = max(header.values(), key=lambda element: element.tag)
    if not isinstance(last, RawDataElement) or last.length == _UNDEFINED_LENGTH:
        return False
    return last.value_tell + last.length > data.seek(0, SEEK_END)


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open a source for reading from its start; a file object stays open afterwards.

    Raises:
        MedicalImageError: if it cannot be opened or is not a regular file (``reason="not_regular_file"``), or has no
            bytes (``reason="empty_file"``).
    """
    if isinstance(source, str | os.PathLike):
        with _open_regular(source) as file:
            _refuse_empty(file)
            yield file
    else:
        _refuse_empty(source)
        yield source


def is_dicom(head: bytes) -> bool:
    """Return True if a file that starts with these bytes (132 or more) is DICOM, with or without a preamble.

    Without the prefix ``DICM`` the first element must be of group 2 or 8 and plausible: a known value representation,
    or a short value in the implicit encoding.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\\x08\\x00\\x05\\x00CS\\x0a\\x00"), is_dicom(b"\\x89PNG")
        (True, True, False)
    """
    if head[128:132] == b"DICM":
        return True
    if head[4:6] in _VALUE_REPRESENTATIONS:
        return head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")
    # implicit: little-endian length; group 8 starts with short values, so a long one is another format
    return len(head) >= 8 and head[:2] in (b"\x02\x00", b"\x08\x00") and int.from_bytes(head[4:8], "little") < 2**16


def remaining_bytes(file: BinaryIO) -> int:
    """Return the number of bytes from the position of a file to its end; the position is kept."""
    position = file.tell()
    end = file.seek(0, SEEK_END)
    file.seek(position)
    return end - position


def inflate(file: BinaryIO, *, limits: Limits) -> BytesIO:
    """Inflate the rest of a file, within the limits.

    Raises:
        MedicalImageError: ``reason="too_large"`` beyond the limits, ``"truncated"`` if the data ends early,
            ``"bad_header"`` if it is not deflated data.

    Reference:
        DICOM PS3.5 A.5.
    """
    most = min(limits.inflated_bytes, limits.inflation_ratio * max(1, remaining_bytes(file)))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    result = BytesIO()
    try:
        while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(2**20)):
            result.write(inflater.decompress(chunk, 2**22))
            if result.tell() > most:
                raise MedicalImageError(
                    f"A deflated data set may inflate to {limits.inflated_bytes} bytes and "
                    f"{limits.inflation_ratio} times its size, this one goes beyond; "
                    "raise the limits if the file is to be trusted.",
                    reason="too_large",
                )
    except zlib.error:
        raise MedicalImageError(
            "The transfer syntax says that the data set is deflated, but it does not inflate; export the file again.",
            reason="bad_header",
        ) from None
    if not inflater.eof:
        raise MedicalImageError(
            "The deflated data set ends before its end marker; copy or export the file again.", reason="truncated"
        )
    result.seek(0)
    return result


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    # O_NONBLOCK: opening a pipe without a writer would wait for ever; it has no effect on regular files
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "not a path"
        raise MedicalImageError(
            f"Expected a regular file that can be opened, got: {cause}; check that it exists and may be read.",
            reason="not_regular_file",
        ) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise MedicalImageError(
        "Expected a regular file, got a folder, pipe, socket or device; leave it out.", reason="not_regular_file"
    )


def _refuse_empty(file: BinaryIO) -> None:
    file.seek(0)
    if remaining_bytes(file) == 0:
        raise MedicalImageError("Expected an image, the file has no bytes; copy it again.", reason="empty_file")
