"""The free memory that the C library keeps for later."""

from __future__ import annotations

import ctypes

__all__ = ["give_back_free_memory"]


def give_back_free_memory() -> None:
    """Return free memory to the system; does nothing without glibc.

    What is kept counts as resident. It is also shared with every process that is forked, and touching it again then
    copies it page by page, which costs more than taking fresh pages.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # not glibc
        return
