"""Write files atomically, numbers as valid JSON, and the table that maps ids to files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.errors import MovlError

__all__ = [
    "EVALUATED_FILE",
    "FILE_TABLE",
    "clear_leftovers",
    "jsonable",
    "keep_evaluated",
    "missing_part",
    "started_at",
    "to_json",
    "today",
    "write_atomically",
    "write_file_table",
]

EVALUATED_FILE = "evaluated.json"
"""File beside a report: number of evaluated images by domain and split, and a SHA-256 of their bytes."""
FILE_TABLE = "local/files.csv"
"""Path relative to predictions.csv, which names images by salted ids."""


def write_atomically(path: str | os.PathLike[str], content: bytes, *, called: str = "", private: bool = False) -> None:
    """Write to a temporary file beside the target and rename it; missing folders are created.

    Args:
        path: path of the file.
        content: full content.
        called: description of the file in errors, if its name must not be repeated in messages.
        private: make it readable by its owner only.

    Raises:
        MovlError: if it cannot be written; nothing is left behind.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            if not private:
                os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only the owner can read
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MovlError(
            f"{called or target.name} cannot be written: {error.strerror or error} ({target.parent}). Expected a "
            "folder that exists or can be made, with space left; choose another output_dir."
        ) from error


def keep_evaluated(folder: Path, datalist: Any) -> None:
    """Write the fingerprints of the evaluated data that :func:`~movl_monai.engines.check_evaluation` noted in it."""
    if fingerprints := getattr(datalist, "fingerprints", None):
        write_atomically(folder / EVALUATED_FILE, to_json({"format": 1, "images": fingerprints}).encode())


def missing_part(path: str | os.PathLike[str]) -> str:
    """Say which part of a path does not exist; the folders before it, whose names may identify people, are left out.

    Example:
        >>> missing_part("no_such_folder/chest")
        "there is no 'no_such_folder' in the working directory"
        >>> missing_part("/no_such_folder/chest")
        "there is no 'no_such_folder' in the folder before it"
    """
    whole = Path(path).absolute()
    first = next((part for part in [*reversed(whole.parents), whole] if not part.exists()), whole)
    place = "the working directory" if first.parent == Path.cwd() else "the folder before it"
    return f"there is no {first.name!r} in {place}"


def clear_leftovers(folder: Path, subfolders: Iterable[str]) -> None:
    """Remove the temporary files of an interrupted process.

    Args:
        folder: folder of the outputs.
        subfolders: subfolders to search, not recursively; "." is the folder itself.
    """
    for name in subfolders:
        for path in (folder / name).glob(".*.tmp"):
            path.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """Return :func:`jsonable` content as JSON text; a non-finite number is an error here."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def jsonable(value: Any, *, where: str = "", notes: list[str] | None = None) -> Any:
    """Convert a value to JSON-able data.

    Non-finite numbers become None, with an entry in ``notes``. Only the last part of a path is kept. Tuples become
    lists, dataclasses become dictionaries, and any other object becomes its text.

    Example:
        >>> notes = []
        >>> jsonable({"loss": float("nan"), "file": Path("/home/me/model.pt")}, notes=notes), notes
        ({'loss': None, 'file': 'model.pt'}, ['loss was nan, which JSON cannot hold.'])
    """
    numpy = sys.modules.get("numpy")  # where it is not imported, no value is an array
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value) and notes is not None:
            notes.append(f"{where} was {value}, which JSON cannot hold.")
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        names = {str(key): key for key in value}
        return {k: jsonable(value[key], where=f"{where}.{k}" if where else k, notes=notes) for k, key in names.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, bytes):
        return [jsonable(part, where=f"{where}[{index}]", notes=notes) for index, part in enumerate(value)]
    return str(value)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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


def started_at() -> int:
    """Return the time stamp of the outputs, in seconds: SOURCE_DATE_EPOCH if it is set, else the current time.

    Reference:
        https://reproducible-builds.org/specs/source-date-epoch
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given) if given.isdecimal() else int(time.time())


def today() -> str:
    """Return the date of the outputs, such as "2026-11-30"; see :func:`started_at`."""
    return time.strftime("%Y-%m-%d", time.localtime(started_at()))
