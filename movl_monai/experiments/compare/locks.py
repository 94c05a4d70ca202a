"""Locks of a folder that several commands share; each lock ends with its process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["lock"]


@contextlib.contextmanager
def lock(path: Path, *, wait: bool, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a file while the ``with`` block runs.

    The operating system holds it (``flock``), so that the lock of a killed process is released. Without ``flock``
    (Windows) every lock is granted, and two commands must not share a folder.

    Args:
        path: of the file, which is made and kept.
        wait: whether to wait until it is free.
        shared: whether to share it with other shared holders.

    Yields:
        True if the lock is held.
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
