"""Journal of the files on disk, filled in parallel: a killed run resumes, and millions of files need no memory."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Container, Iterator
from dataclasses import astuple
from pathlib import Path
from types import TracebackType

from movl_monai.data.ids import Salter
from movl_monai.data.read_folders import file_at_problem, find_files, is_hidden
from movl_monai.data.workers import map_in_workers
from movl_monai.errors import DataError
from movl_monai.ingest.examine import Examine, Known, Task, died
from movl_monai.ingest.records import FILE_COLUMNS, FRAME_COLUMNS, FileRecord

__all__ = ["HEADERS_TOGETHER", "Journal", "add_files", "file_key", "read_files", "sort_text"]

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
HEADERS_TOGETHER = 128


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


def file_key(salter: Salter, path: str) -> str:
    """Return the salted key of a file, from its path relative to the root."""
    return salter.digest(f"file\0{path}")[:32]


def sort_text(path: str) -> str:
    """Return a text that sorts paths in natural order in SQLite's text comparison.

    Example:
        >>> sorted(["b10.dcm", "b9.dcm"], key=sort_text)
        ['b9.dcm', 'b10.dcm']
    """
    padded = re.sub(r"[0-9]+", lambda match: match[0].zfill(20), path)
    return padded.encode("utf-8", "replace").decode()


def add_files(journal: Journal, root: Path, salter: Salter, *, ignore: Container[Path]) -> int:
    """Add the files below a folder to the journal.

    Args:
        journal: receives the files.
        root: the folder, absolute.
        salter: makes the keys.
        ignore: files and folders to skip: the program's own output.

    Returns:
        Number of files.

    Raises:
        DataError: if there is none.
    """
    count = 0
    for path, problem in find_files(root):
        if path in ignore or any(parent in ignore for parent in path.parents):
            continue
        relative = path.relative_to(root).as_posix()
        problem = problem or _name_problem(relative) or file_at_problem(path, root)
        journal.add_path(file_key(salter, relative), os.fsencode(relative), sort_text(relative), problem)
        count += 1
    if not count:
        raise DataError(f"The folder {root.name} has no files; name the folder that holds the images.")
    return count


def read_files(
    journal: Journal, examine: Examine, *, total: int, num_workers: int, progress: bool | None = None
) -> dict[str, int]:
    """Read the files of the journal that have no valid record.

    Args:
        journal: names the files and receives the records.
        examine: reader of one file.
        total: number of files.
        num_workers: processes; 0 reads in this process.
        progress: show a progress bar on stderr; None shows it only on terminals.

    Returns:
        Number of files read, and number of files with a valid record.
    """
    from tqdm import tqdm

    def tasks() -> Iterator[Task]:
        for key, path, problem in journal.paths():
            if problem is not None:
                journal.put(key, FileRecord(status=problem))
                bar.update()
            else:
                yield Task(key, os.fsdecode(os.path.join(os.fsencode(examine.root), path)), journal.known(key))

    counts = {"read": 0, "known": 0}
    # disable=None means "on terminals only"
    # reading a header takes less time than sending it to a worker and back
    chunk = HEADERS_TOGETHER if examine.transform is None else 1
    with tqdm(total=total, desc="read", unit="file", disable=None if progress is None else not progress) as bar:
        for task, record in map_in_workers(examine, tasks(), num_workers=num_workers, died=died, chunk=chunk):
            counts["known" if record is None else "read"] += 1
            if record is not None:
                journal.put(task.key, record)
            bar.update()
    journal.forget_others()
    return counts


def _name_problem(relative: str) -> str | None:
    """Return ``hidden_file``, or ``bad_name`` for a name that a CSV file in UTF-8 cannot hold."""
    if any(is_hidden(part) for part in relative.split("/")) or relative.lower().endswith(("thumbs.db", "desktop.ini")):
        return "hidden_file"
    if relative != relative.strip() or relative.encode("utf-8", "replace").decode() != relative:
        return "bad_name"
    return None
