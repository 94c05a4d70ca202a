"""Read every file below a folder into the journal, in parallel."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from pathlib import Path

from movl_monai.data.ids import Salter
from movl_monai.data.read_folders import file_at_problem, find_files, is_hidden
from movl_monai.data.workers import map_in_workers
from movl_monai.errors import DataError
from movl_monai.ingest.examine import Examine, Task, died
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.records import FileRecord

__all__ = ["HEADERS_TOGETHER", "add_files", "file_key", "read_files", "sort_text"]

HEADERS_TOGETHER = 128


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
