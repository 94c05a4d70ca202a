"""Journal of the files on disk: a killed run resumes, and millions of files need no memory."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from types import TracebackType

from movl_monai.errors import DataError
from movl_monai.ingest.examine import Known
from movl_monai.ingest.records import FILE_COLUMNS, FRAME_COLUMNS, FileRecord

__all__ = ["Journal"]

_VERSION = 3  # of the tables and of the meaning of their values
_SECONDS = 1.0  # between two commits: the most that a killed run loses

# exclusive: the second of two runs on one journal stops at once with a message
_PRAGMAS = "PRAGMA temp_store = FILE; PRAGMA cache_size = -4096; PRAGMA locking_mode = EXCLUSIVE;"
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS files (key TEXT PRIMARY KEY, settings TEXT, {", ".join(FILE_COLUMNS)}) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (key TEXT, {", ".join(FRAME_COLUMNS)}, PRIMARY KEY (key, frame)) WITHOUT ROWID;
CREATE TEMP TABLE paths (key TEXT PRIMARY KEY, path BLOB, sort TEXT, problem TEXT) WITHOUT ROWID;
CREATE INDEX temp.path_order ON paths (sort);
"""


class Journal:
    """Records of files in SQLite, by the salted key of their path.

    A record is valid only for the settings of its creation, and only if size, modification time and content of the file
    are unchanged; the reader of the file checks that. Paths are in a temporary table, which ends with the
    process: the journal itself names nobody. It is nevertheless readable only by its owner.

    Args:
        path: the journal's file; None for a temporary one.
        settings: everything besides the file that determines a record.

    Raises:
        DataError: if the file cannot be written, or is not a journal.
    """

    def __init__(self, path: Path | None, *, settings: str) -> None:
        self.settings = f"{_VERSION} {settings}"
        self._committed = time.monotonic()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                # created with its final mode: others can never read it
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self.db = sqlite3.connect("" if path is None else path, timeout=1)
            self.db.executescript(_PRAGMAS + _SCHEMA)
            self._check_columns()
        except (OSError, sqlite3.Error) as error:
            name = "a temporary file" if path is None else path.name
            # the text of an OSError contains the whole path
            cause = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"The journal {name} cannot be used ({cause}); wait for another run that uses it, delete it if it is "
                "damaged, or choose a folder that can be written."
            ) from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.commit()
        self.db.close()

    def add_path(self, key: str, path: bytes, sort: str, problem: str | None) -> None:
        """Add a file of this run.

        Args:
            key: its salted key.
            path: in the bytes of the file system, relative to the root.
            sort: sort key of the file.
            problem: reason code of a file that is not read.
        """
        self.db.execute("INSERT OR REPLACE INTO paths VALUES (?, ?, ?, ?)", (key, path, sort, problem))

    def paths(self) -> Iterator[tuple[str, bytes, str | None]]:
        """Yield key, path and problem of the files of this run, in order."""
        yield from self.db.execute("SELECT key, path, problem FROM paths ORDER BY sort, key")

    def known(self, key: str) -> Known | None:
        """Return the entry of a file under the same settings; None if there is none."""
        row = self.db.execute(
            "SELECT size, modified, digest, covered FROM files WHERE key = ? AND settings = ? AND digest != ''",
            (key, self.settings),
        ).fetchone()
        return None if row is None else Known(*row)

    def put(self, key: str, record: FileRecord) -> None:
        """Store the record of a file, replacing an earlier one."""
        values = [getattr(record, column) for column in FILE_COLUMNS]
        marks = ", ".join("?" * (len(values) + 2))
        self.db.execute("DELETE FROM frames WHERE key = ?", (key,))
        self.db.execute(f"INSERT OR REPLACE INTO files VALUES ({marks})", (key, self.settings, *values))
        frames = ((key, *astuple(frame)) for frame in record.frames)
        self.db.executemany(f"INSERT INTO frames VALUES ({', '.join('?' * (len(FRAME_COLUMNS) + 1))})", frames)
        if time.monotonic() - self._committed > _SECONDS:
            self.db.commit()
            self._committed = time.monotonic()

    def forget_others(self) -> None:
        """Delete the records of files outside of this run."""
        for table in ("files", "frames"):
            self.db.execute(f"DELETE FROM {table} WHERE key NOT IN (SELECT key FROM paths)")
        self.db.commit()

    def _check_columns(self) -> None:
        """Start anew if the file is of another version; its contents can be read again."""
        for table, columns in (("files", FILE_COLUMNS), ("frames", FRAME_COLUMNS)):
            found = {row[1] for row in self.db.execute(f"PRAGMA table_info({table})")}
            if not found >= set(columns):
                self.db.execute(f"DROP TABLE {table}")
                self.db.executescript(_SCHEMA.split("CREATE TEMP")[0])
