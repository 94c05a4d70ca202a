"""Table that maps the ids of a result to files; its paths identify patients, so it stays on this machine."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from movl_monai.files import write_atomically

__all__ = ["FILE_TABLE", "write_file_table"]

FILE_TABLE = "local/files.csv"
"""Path relative to predictions.csv, which names images by salted ids."""


def write_file_table(folder: str | os.PathLike[str], lines: Iterable[tuple[str, str, int | None]]) -> None:
    """Write ``local/files.csv`` with the columns ``id``, ``path`` and ``frame``, readable by its owner only.

    Args:
        folder: folder of the results.
        lines: id, path, and the frame in a file of several; a volume has a line for each of its files.

    Raises:
        MovlError: if it cannot be written.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "path", "frame"])
    writer.writerows([name, path, "" if frame is None else frame] for name, path, frame in dict.fromkeys(lines))
    # file names need not be valid text
    content = stream.getvalue().encode("utf-8", "surrogateescape")
    write_atomically(Path(folder) / FILE_TABLE, content, private=True)
