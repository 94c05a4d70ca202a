"""The memory that the C library has on hand: kept for what comes next, or given back."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["give_back_free_memory", "keep_free_memory"]

# of malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MB = 2**20


def give_back_free_memory() -> None:
    """Return free memory to the system; does nothing without glibc.

    What is kept counts as resident. It is also shared with every process that is forked, and touching it again then
    copies it page by page, which costs more than taking fresh pages.
    """
    _call("malloc_trim", 0)


def keep_free_memory(megabytes: int = 1024) -> None:
    """Let this process keep free memory for its next allocations, until it ends; does nothing without glibc.

    By default the large tensors of a network on a CPU are taken from the system and given back in every layer, and
    clearing their pages takes a fifth of the time of a small convolutional network. It is for programs to call, not for
    libraries: all of the process is affected.

    Args:
        megabytes: at most so much stays free; single blocks of a quarter of it and more are always given back.
    """
    _call("mallopt", _TRIM_THRESHOLD, megabytes * _MB)
    _call("mallopt", _MMAP_THRESHOLD, megabytes * _MB // 4)


def _call(name: str, *arguments: Any) -> None:
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (OSError, AttributeError, TypeError):  # not glibc
        return
