"""Open image files safely: regular files only, never a pipe, a device or a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from movl_monai.readers.errors import MedicalImageError

__all__ = ["Source", "open_source"]

Source = str | os.PathLike[str] | BinaryIO
"""A path, or a seekable binary file object, which is read from its beginning and stays open."""


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
