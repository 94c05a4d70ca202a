"""Keep pydicom's warnings and log lines to ourselves: they quote values of the file, names and ids included."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["quiet"]


class _Muffler:
    """Count the readers of all threads: the first one in mutes, the last one out restores.

    Warning filters and loggers belong to the process. Were they saved and restored by each thread on its own,
    two overlapping readers could leave the program muted for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._restore = ExitStack()

    def enter(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers > 1:
                return
            self._restore.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"pydicom($|\.)")
            logger = logging.getLogger("pydicom")
            self._restore.callback(setattr, logger, "propagate", logger.propagate)
            # not the level: changing that clears the caches of all loggers, half a millisecond per file
            logger.propagate = False

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._restore.close()


_MUFFLER = _Muffler()


@contextmanager
def quiet() -> Iterator[None]:
    """Mute pydicom within the block; what the caller must know becomes a flag or an error of ours."""
    _MUFFLER.enter()
    try:
        yield
    finally:
        _MUFFLER.leave()
