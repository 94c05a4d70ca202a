"""Keep warnings and log lines of pydicom and highdicom to ourselves: they quote the file, names and ids included."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import ContextDecorator, ExitStack
from functools import wraps
from typing import Any, TypeVar

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
            warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)($|\.)")
            for name in ("pydicom", "highdicom"):
                logger = logging.getLogger(name)
                self._restore.callback(setattr, logger, "propagate", logger.propagate)
                # not the level: changing that clears the caches of all loggers, half a millisecond per file
                logger.propagate = False

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._restore.close()


_MUFFLER = _Muffler()
_THIS_THREAD = threading.local()

Function = TypeVar("Function", bound=Callable[..., Any])


class quiet(ContextDecorator):
    """Mute pydicom and highdicom within a block or function; what a caller must know becomes a flag or an error."""

    def __enter__(self) -> None:
        _THIS_THREAD.depth = getattr(_THIS_THREAD, "depth", 0) + 1
        if _THIS_THREAD.depth == 1:
            _MUFFLER.enter()

    def __exit__(self, *_: object) -> None:
        _THIS_THREAD.depth -= 1
        if _THIS_THREAD.depth == 0:
            _MUFFLER.leave()

    def __call__(self, func: Function) -> Function:
        """Mute a function; costs next to nothing where the caller is muted already, as for every tag of a file."""

        @wraps(func)
        def inner(*args: Any, **kwargs: Any) -> Any:
            if getattr(_THIS_THREAD, "depth", 0):
                return func(*args, **kwargs)
            with self:
                return func(*args, **kwargs)

        return inner  # type: ignore[return-value]
