"""Open sources of DICOM objects: regular files and seekable file objects, nothing else."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, BytesIO
from typing import BinaryIO, TypeAlias

from pydicom.valuerep import VR

from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.errors import MedicalImageError

__all__ = ["Source", "inflate", "is_dicom", "open_source", "remaining_bytes"]

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""A path of a regular file, or a seekable binary file object."""

_VALUE_REPRESENTATIONS = frozenset(str(vr).encode() for vr in VR if len(str(vr)) == 2)


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
