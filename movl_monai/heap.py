"""Free memory of the C library: kept for later allocations, or returned to the system."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["give_back_free_memory", "keep_free_memory"]

# of malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MB = 2**20


def give_back_free_memory() -> None:
    """Return free memory to the system; does nothing without glibc.

    Kept memory counts as resident. It is also shared with every forked process, and its next use then copies it page by
    page, which costs more than fresh pages.
    """
    _call("malloc_trim", 0)


def keep_free_memory(megabytes: int = 1024) -> None:
    """Let this process keep free memory for its next allocations, until it ends; does nothing without glibc.

    By default the large tensors of a network on a CPU are allocated from the system and returned in every layer.
    Clearing their pages takes a fifth of the time of a small convolutional network. Only programs should call it, not
    libraries, because it affects the whole process.

    Args:
        megabytes: largest amount of free memory; single blocks of a quarter of it and more are always returned.
    """
    _call("mallopt", _TRIM_THRESHOLD, megabytes * _MB)
    _call("mallopt", _MMAP_THRESHOLD, megabytes * _MB // 4)


def _call(name: str, *arguments: Any) -> None:
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (OSError, AttributeError, TypeError):  # not glibc
        return
