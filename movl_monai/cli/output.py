"""Streams of a command: results on standard output, everything else on standard error and in a log file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from movl_monai.errors import ConfigError, user_error

__all__ = ["keep_stdout", "open_log", "say_loading", "say_next", "show"]


def say_loading(what: str = "torch and MONAI") -> None:
    """Say on standard error that something is loaded that takes seconds, unless it is there already."""
    if "monai" not in sys.modules:
        print(f"Loading {what} ...", file=sys.stderr, flush=True)


def say_next(*words: str) -> None:
    """Print the next command, apart from the results: on standard error.

    Args:
        words: of the command; DATA, INPUT and OUT stand for places of images, whose names may identify people.
    """
    print(f"Next: movl-monai {shlex.join(words)}", file=sys.stderr)


def show(options: Namespace, text: str, facts: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print a result: the text, or with ``--json`` the facts alone."""
    print(json.dumps(facts, indent=2, default=str) if options.json else text)


@contextlib.contextmanager
def keep_stdout() -> Iterator[None]:
    """Send the prints of libraries, and the lines of loggers made meanwhile, to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def open_log(path: str | None, *, quiet: bool) -> Iterator[None]:
    """Copy standard error to a log file, and with ``quiet`` show nothing of it.

    Args:
        path: file to which lines are added, without progress bars; None for no file.
        quiet: leave results and the last error alone on the terminal.

    Raises:
        ConfigError: if the file cannot be written.
    """
    if path is None and not quiet:
        yield
        return
    with contextlib.ExitStack() as stack:
        file = None if path is None else stack.enter_context(_open(path))
        stack.enter_context(contextlib.redirect_stderr(_Copy(sys.stderr, file, quiet=quiet)))
        try:
            yield
        except Exception as error:
            if file is not None:
                print(f"{type(error).__name__}: {user_error(error) or error}", file=file)
            raise


def _open(path: str) -> TextIO:
    try:
        return Path(path).open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--log_file cannot be written ({error.strerror}): '{path}'. Name another file.") from error


class _Copy(io.TextIOBase):
    """Stream that copies whole lines to a file; a progress bar draws its line again and again, and is left out."""

    def __init__(self, shown: TextIO, file: TextIO | None, *, quiet: bool) -> None:
        self.shown, self.file, self.quiet = shown, file, quiet
        self.process, self.line = os.getpid(), ""

    def write(self, text: str) -> int:
        if not self.quiet:
            self.shown.write(text)
        if self.file is not None and not self.file.closed and os.getpid() == self.process:
            *lines, self.line = (self.line + text).split("\n")
            for line in lines:
                if "\r" not in line:
                    print(line, file=self.file, flush=True)
        return len(text)

    def flush(self) -> None:
        self.shown.flush()

    def isatty(self) -> bool:
        return not self.quiet and self.shown.isatty()

    def fileno(self) -> int:
        return self.shown.fileno()

    def writable(self) -> bool:
        return True
