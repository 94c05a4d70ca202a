"""Base of the errors that a user can act on.

The `movl-monai` command prints them as one paragraph without a traceback.
"""

from __future__ import annotations

import linecache
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

__all__ = [
    "EXIT_SOME_FAILED",
    "RESEARCH_USE",
    "CheckpointMismatchError",
    "ConfigError",
    "DataError",
    "ExportError",
    "LeakageError",
    "MovlError",
    "NonFiniteLossError",
    "UntrustedConfigError",
    "UnwritableError",
    "WeightsError",
    "errors_shown_once",
    "show_user_errors",
    "user_error",
]


RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis."

EXIT_SOME_FAILED = 4
"""Exit code of a command that could not predict or write some of its files; the rest is done."""


class MovlError(ValueError):
    """Error in the user's input; the message states the expectation, the finding and the remedy.

    Attributes:
        exit_code: exit code of the command.
    """

    exit_code = 2


class ConfigError(MovlError):
    """Unknown or impossible setting of a bundle or command."""


class UntrustedConfigError(ConfigError):
    """Config with code outside of the allow-list that was not declared trusted."""


class DataError(MovlError):
    """Unusable data set: empty, one class, unreadable, unknown patients."""


class LeakageError(DataError):
    """Images or patients that a network learned from would be scored as test; the command ends with exit code 3."""

    exit_code = 3


class WeightsError(MovlError):
    """Pretrained weights that are missing, damaged, or not the backbone's."""


class CheckpointMismatchError(MovlError):
    """Checkpoint of other frozen weights, or other classes, than those of the network."""


class ExportError(MovlError):
    """Exported model that is unreadable or unusable, or that would differ from its network."""


class NonFiniteLossError(MovlError):
    """NaN or infinite loss; training stops at that step instead of skipping it."""


def user_error(error: BaseException) -> BaseException | None:
    """Return the user's error among an error and its causes, or None.

    MONAI wraps every failure in a config expression into a RuntimeError. The project's own error is below it: one of
    its own classes, or a ValueError or TypeError that its code raises about a setting.
    """
    from movl_monai.readers.errors import MedicalImageError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (MovlError, MedicalImageError)) or _is_about_a_setting(seen):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


@contextmanager
def errors_shown_once() -> Iterator[None]:
    """Keep the user's errors, and interruptions, out of the logs: whoever catches the error shows it.

    MONAI and ignite log an error with its traceback before they raise it again. The environment variable
    MOVL_TRACEBACK=1 leaves the logs as they are.
    """
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(partial(_quiet_record, before))
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def show_user_errors() -> None:
    """End `python -m monai.bundle` with one paragraph; do nothing in other programs.

    MONAI wraps the user's error, and ends with a traceback. It becomes the last line in the place of that.
    """
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if program is not None and program.name == "monai.bundle.__main__" and sys.excepthook is not _show_paragraph:
        errors_shown_once().__enter__()
        sys.excepthook = _show_paragraph


def _quiet_record(make: Callable[..., logging.LogRecord], *args: Any, **options: Any) -> logging.LogRecord:
    record = make(*args, **options)
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    if record.levelno < logging.ERROR or error is None or os.environ.get("MOVL_TRACEBACK"):
        return record
    if isinstance(error, KeyboardInterrupt) or user_error(error) is not None:
        record.levelno = -1  # below the level of every handler
    return record


def _show_paragraph(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    known = error if isinstance(error, KeyboardInterrupt) else user_error(error)
    if known is None or os.environ.get("MOVL_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)
    elif known is error and isinstance(error, KeyboardInterrupt):
        print("movl-monai: interrupted. With `--resume true` the same command goes on.", file=sys.stderr)
    else:
        print(f"movl-monai: {known}", file=sys.stderr)


def _is_about_a_setting(error: BaseException) -> bool:
    """Return True if this package raised the error on purpose, with a ``raise`` statement."""
    if not isinstance(error, (ValueError, TypeError)) or error.__traceback__ is None:
        return False
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    inside = str(frame.f_globals.get("__name__", "")).startswith("movl_monai.")
    return inside and linecache.getline(frame.f_code.co_filename, line).strip().startswith("raise ")


class UnwritableError(Exception):
    """An output that its source does not allow.

    Args:
        reason: code for the row.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
