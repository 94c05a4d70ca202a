"""Locks of a folder that several commands share; each ends with its process, however that ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["lock"]


@contextlib.contextmanager
def lock(path: Path, *, wait: bool, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a file while the ``with`` block runs.

    The operating system keeps it (``flock``), so that no claim of a killed process is left behind. Without ``flock``
    (Windows) every lock is given, and two commands must not share a folder.

    Args:
        path: of the file, which is made and stays.
        wait: until it is free.
        shared: together with others that hold it so.

    Yields:
        whether it is held.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
