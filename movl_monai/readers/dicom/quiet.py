"""Mute warnings and log lines of image libraries, which quote names, ids and UIDs."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import ContextDecorator, ExitStack
from functools import wraps
from typing import Any, TypeVar

__all__ = ["LIBRARIES", "mute", "quiet"]

LIBRARIES = (
    *("PIL", "_openjpeg", "highdicom", "nibabel", "openjpeg", "pydicom", "pylibjpeg", "pynetdicom", "tifffile"),
)
"""Packages whose loggers and warnings are muted."""

_NOWHERE = logging.NullHandler()
_OWN_HANDLER = "nibabel.global"  # prints on its own, whatever the program has configured
# a library that warns with a stack level names the calling line of this package
_CALLERS = ("movl_monai.readers", "movl_monai.transforms", "movl_monai.predict.dicom")


class _Muffler:
    """Count the readers of all threads: the first one mutes, the last one restores.

    Warning filters and loggers belong to the process. If each thread saved and restored them, two overlapping readers
    could leave the program muted permanently.
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
            for category, names in ((Warning, LIBRARIES), (UserWarning, _CALLERS)):
                modules = "|".join(name.replace(".", r"\.") for name in names)
                warnings.filterwarnings("ignore", category=category, module=rf"({modules})($|\.)")
            for name in LIBRARIES:
                self._mute(logging.getLogger(name))
            printing = logging.getLogger(_OWN_HANDLER)
            self._restore.callback(setattr, printing, "disabled", printing.disabled)
            printing.disabled = True

    def _mute(self, logger: logging.Logger) -> None:
        """Withhold a logger's lines from the handlers of the program.

        Its level is kept: changing it clears the caches of all loggers, half a millisecond per file. Without a handler
        of its own, Python would print its lines on stderr as a last resort.
        """
        self._restore.callback(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False
        logger.addHandler(_NOWHERE)
        self._restore.callback(logger.removeHandler, _NOWHERE)

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._restore.close()


_MUFFLER = _Muffler()
_THIS_THREAD = threading.local()


def mute() -> Callable[[], None]:
    """Mute :data:`LIBRARIES` in all threads until the returned function is called; repeated calls do no harm."""
    _MUFFLER.enter()
    scope = ExitStack()
    scope.callback(_MUFFLER.leave)
    return scope.close


Function = TypeVar("Function", bound=Callable[..., Any])


class quiet(ContextDecorator):
    """Mute :data:`LIBRARIES` within a block or function; relevant warnings become flags or errors."""

    def __enter__(self) -> None:
        _THIS_THREAD.depth = getattr(_THIS_THREAD, "depth", 0) + 1
        if _THIS_THREAD.depth == 1:
            _MUFFLER.enter()

    def __exit__(self, *_: object) -> None:
        _THIS_THREAD.depth -= 1
        if _THIS_THREAD.depth == 0:
            _MUFFLER.leave()

    def __call__(self, func: Function) -> Function:
        """Mute a function; costs almost nothing if the caller is already muted, as for every tag of a file."""

        @wraps(func)
        def inner(*args: Any, **kwargs: Any) -> Any:
            if getattr(_THIS_THREAD, "depth", 0):
                return func(*args, **kwargs)
            with self:
                return func(*args, **kwargs)

        return inner  # type: ignore[return-value]
