"""The two CSV files: the manifest, one row per image, and the report, one row per file."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from movl_monai.data.ids import IdMap
from movl_monai.errors import DataError
from movl_monai.ingest.journal import Journal

__all__ = ["REPORT_COLUMNS", "check_writable", "write_manifest", "write_report"]

_MANIFEST = """
SELECT paths.path, images.label AS label, images.patient AS patient_id, split, domain, shown AS frame, id, mask,
    modality, view, laterality, study, series, placed.volume, placed."order" AS slice, placed.place AS slice_position,
    folder
FROM images JOIN files USING (key) JOIN paths USING (key) JOIN placed USING (key, frame)
ORDER BY placed.sort, placed.volume, placed."order", images.key, images.frame
"""
REPORT_COLUMNS = (
    *("status", "detail", "format", "modality", "view", "laterality", "sop_class", "transfer_syntax", "photometric"),
    *("bits", "rows", "columns", "burned_in", "secondary_capture", "localizer", "flags", "patient", "study", "series"),
)
_REPORT = f"""
SELECT paths.path, COALESCE(statuses.status, files.status) AS status, {", ".join(REPORT_COLUMNS[1:])},
    (SELECT COUNT(*) FROM frames WHERE frames.key = files.key) AS frames,
    (SELECT COUNT(*) FROM images WHERE images.key = files.key) AS images
FROM paths JOIN files USING (key) LEFT JOIN statuses USING (key) ORDER BY paths.sort, paths.key
"""


def check_writable(folder: Path) -> None:
    """Make a folder and check that it is writable, before anything long begins.

    Raises:
        DataError: if it is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"Nothing can be written to the folder {folder.name!r} ({error.strerror}); choose another place "
            "for the output."
        ) from None


def write_manifest(journal: Journal, path: Path, *, root: Path) -> None:
    """Write the manifest, which :func:`movl_monai.data.read_datalist` reads.

    Paths below the manifest's folder are relative to it, others absolute.

    Args:
        journal: with the tables ``images`` and ``placed``.
        path: of the manifest.
        root: the folder of the images.
    """
    folder = path.parent.resolve()
    cursor = journal.db.execute(_MANIFEST)
    names = [column[0] for column in cursor.description]
    (masks,) = journal.db.execute("SELECT COUNT(mask) FROM images").fetchone()
    dropped = {"folder"} if masks else {"folder", "mask"}
    folders: set[str] = set()

    def rows() -> Iterator[list[Any]]:
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            if row["folder"] in folders:
                continue
            if row["folder"]:  # a series with one mask is one volume, whose slices are counted in training
                folders.add(row["folder"])
                row |= {"path": os.fsencode(row["folder"]), "id": None, "slice": None, "slice_position": None}
            row["path"] = _shown(root / os.fsdecode(row["path"]), folder)
            row["mask"] = _shown(Path(row["mask"]), folder) if row["mask"] else None
            yield [value for name, value in row.items() if name not in dropped]

    _write(path, [name for name in names if name not in dropped], rows())


def write_report(journal: Journal, path: Path, ids: IdMap, *, root: Path) -> None:
    """Write the report: salted id, status and technical facts of every file, without names or paths."""
    cursor = journal.db.execute(_REPORT)
    names = [column[0] for column in cursor.description[1:]]

    def rows() -> Iterator[list[Any]]:
        for name, *values in cursor:
            key = os.fsdecode(name)
            yield [ids.add(key, path=root / key), *values]

    _write(path, ["id", *names], rows())


def _shown(path: Path, folder: Path) -> str:
    """Return a path relative to a folder if it is below it, also through links; else the absolute path."""
    for candidate in (path, Path(os.path.realpath(path.parent), path.name)):
        if candidate.is_relative_to(folder):
            return candidate.relative_to(folder).as_posix()
    return str(path)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV row by row beside its destination, and move it there when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows(["" if value is None else value for value in row] for row in rows)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path.name} cannot be written ({error.strerror}); choose another place.") from None
