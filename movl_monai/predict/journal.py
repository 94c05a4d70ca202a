"""Journal of finished units on disk; an interrupted run resumes from it and gives the same results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from movl_monai.errors import DataError, MovlError

__all__ = ["Journal", "started_at"]

_FORMAT = 2  # rows with answers
_PATTERN = "journal*.jsonl"


def started_at() -> int:
    """Return the time stamp of the outputs, in seconds: SOURCE_DATE_EPOCH if it is set, else the current time.

    Reference:
        https://reproducible-builds.org/specs/source-date-epoch
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given) if given.isdecimal() else int(time.time())


class Journal:
    """Results of finished units, one line of JSON each; a line cut off by a crash is ignored.

    Each process writes its own file in the same folder, and all files are read. The files hold salted ids and no paths.

    Args:
        folder: folder of the files.
        settings: everything besides the images that the results depend on; other settings in the folder are an error.
        rank: number of this process.
        first: makes the values that the first run fixes for all later runs, such as ``batch_size``.

    Attributes:
        fixed: values made by ``first``, in this run or in the first one.
        done: rows, by the key of their unit.

    Raises:
        DataError: if the folder holds results of another model or with other settings.
        MovlError: if the file cannot be written.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, Any], first: Callable[[], Mapping[str, Any]] = dict, rank: int = 0
    ) -> None:
        self.path = folder / (f"journal.{rank}.jsonl" if rank else "journal.jsonl")
        self.settings = dict(settings)
        self.fixed: dict[str, Any] = {}
        self.done: dict[str, Any] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob(_PATTERN)):
                self._read(path)
            self._end_torn_line()
            # created with its final mode, so that other users can never read it
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._stream = os.fdopen(descriptor, "ab", buffering=0)
            self.fixed = self.fixed or dict(first())
            if not os.path.getsize(self.path):
                self._append({"format": _FORMAT, "settings": self.settings, "fixed": self.fixed})
        except OSError as error:
            raise _cannot_write(error) from error

    def add(self, key: str, rows: Any) -> None:
        """Record a finished unit; it is on disk when this returns.

        Raises:
            MovlError: if the disk is full, or the file cannot be written.
        """
        try:
            self._append({"unit": key, "rows": rows})
        except OSError as error:
            raise _cannot_write(error) from error
        self.done[key] = rows

    def reload(self) -> None:
        """Read the files again, for the entries of other processes."""
        for path in sorted(self.path.parent.glob(_PATTERN)):
            self._read(path)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        if self._stream.write(line) != len(line):
            raise OSError(28, "No space left on device")
        os.fsync(self._stream.fileno())

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n")[:-1]  # the part after the last line end is incomplete
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a cut-off line that a later run terminated
            if number == 0:
                self._check(entry)
                self.fixed |= entry["fixed"]
            elif "unit" in entry:
                self.done[entry["unit"]] = entry["rows"]

    def _check(self, entry: Mapping[str, Any]) -> None:
        theirs = entry.get("settings") or {}
        if entry.get("format") != _FORMAT or theirs != self.settings:
            names = sorted(name for name in {*theirs, *self.settings} if theirs.get(name) != self.settings.get(name))
            raise DataError(
                f"The output folder holds predictions with another {', '.join(names) or 'format'}; choose another "
                "--output_dir, or delete that folder."
            )

    def _end_torn_line(self) -> None:
        if self.path.exists() and (content := self.path.read_bytes()) and not content.endswith(b"\n"):
            kept = content[: content.rfind(b"\n") + 1]
            os.truncate(self.path, len(kept))


def _cannot_write(error: OSError) -> MovlError:
    return MovlError(
        f"The journal of the predictions cannot be written: {error.strerror or error}. Expected an --output_dir that "
        "can be written, with space left; free some, and give the same command again: it goes on where it was."
    )
