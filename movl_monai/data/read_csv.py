"""Read a CSV manifest: `path,label[,mask,patient_id,split,domain,frame,id]`, and columns that make groups."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from movl_monai.data.entries import Entry, Listing, SkippedFile, file_problem, locate, parse_split, tidy
from movl_monai.errors import DataError

__all__ = ["read_csv"]

_REQUIRED = ("path", "label")
_OPTIONAL = ("patient_id", "split", "domain", "frame", "mask", "id")


def read_csv(
    source: Path,
    *,
    data_root: Path | None = None,
    labelled: bool = True,
    folders: bool = False,
    group_columns: Sequence[str] = (),
    groups_required: bool = True,
) -> Listing:
    """The entries of a CSV manifest.

    Columns are found by name (in any case and order, others are ignored); comma, semicolon or tab; UTF-8 with or
    without BOM, UTF-16 with BOM, else Windows-1252. An ``id`` counts if it looks like a salted one. A row given twice
    is kept once and reported as ``duplicate_row``; a file that is not there as ``missing_file``.

    Args:
        source: the CSV file.
        data_root: folder that relative paths belong to, default the CSV's folder.
        labelled: False lets rows, or the whole list, be without a label.
        folders: whether a path may be a folder with one DICOM series.
        group_columns: further columns, found by name, whose values become the groups of an image.
        groups_required: whether such a column may not be missing.

    Raises:
        DataError: if a column is missing, a row has no path or label, a split or frame cannot be understood, a path
            leads out of the folder, or one image has rows that contradict each other. Rows are numbered as a
            spreadsheet shows them: the header is row 1.
    """
    root = (data_root or source.parent).absolute()
    needed = [*(_REQUIRED if labelled else _REQUIRED[:1])]
    needed += [name.lower() for name in group_columns] if groups_required else []
    rows = _rows(source, needed)
    listing = Listing()
    first: dict[tuple[str, int | None], Entry] = {}
    for number, row in rows:
        where = f"row {number} of {source.name}"
        entry = _entry(row, root, where, labelled)
        entry.groups = {name: tidy(row.get(name.lower())) or "" for name in group_columns}
        earlier = first.setdefault((entry.key, entry.frame), entry)
        if earlier is not entry:
            if earlier != entry:
                raise DataError(f"{where} contradicts an earlier row of the same image; keep one of them.")
            listing.skipped.append(SkippedFile(entry.path, entry.key, "duplicate_row", entry.domain, entry.split))
        elif problem := file_problem(entry.path, folders=folders):
            listing.skipped.append(SkippedFile(entry.path, entry.key, problem, entry.domain, entry.split))
        else:
            listing.entries.append(entry)
    return listing


def _rows(source: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    text = _decode(source.read_bytes(), source.name)
    header = text.partition("\n")[0]
    # the delimiter is the one that makes a column called "path"; csv.Sniffer guesses wrong on quoted values
    delimiter = next((d for d in ",;\t" if "path" in _columns(header, d)), ",")
    columns = _columns(header, delimiter)
    missing = [name for name in required if name not in columns]
    if missing:
        raise DataError(
            f"{source.name} must have the columns {', '.join(required)} (and may have {', '.join(_OPTIONAL)}); "
            f"missing: {', '.join(missing)}; found: {', '.join(columns) or 'none'}."
        )
    used = (*_REQUIRED, *_OPTIONAL, *required)
    twice = {name for name in columns if columns.count(name) > 1 and name in used}
    if twice:
        raise DataError(f"{source.name} has more than one column {', '.join(sorted(twice))}; keep one.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        next(reader)
        for values in reader:
            if any(value.strip() for value in values):
                rows.append((reader.line_num, _named(values, columns, f"row {reader.line_num} of {source.name}")))
    except csv.Error as error:
        raise DataError(f"row {reader.line_num} of {source.name} is not valid CSV: {error}.") from error
    return rows


def _decode(content: bytes, name: str) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252")  # what Excel writes on Windows in Western Europe
    except UnicodeDecodeError as error:
        raise DataError(f"{name} must be text in UTF-8; save it as 'CSV UTF-8'.") from error


def _columns(header: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([header.rstrip("\r")], delimiter=delimiter), [])
    return [cell.strip().lower() for cell in cells]


def _named(values: list[str], columns: list[str], where: str) -> dict[str, str]:
    if any(value.strip() for value in values[len(columns) :]):
        raise DataError(
            f"{where} has {len(values)} values for {len(columns)} columns; quote values that hold the comma."
        )
    return dict(zip(columns, values, strict=False))  # a short row lacks its last columns


def _entry(row: dict[str, str], root: Path, where: str, labelled: bool) -> Entry:
    if not row.get("path", "").strip() or (labelled and not row.get("label", "").strip()):
        raise DataError(f"{where} must have a path{' and a label' if labelled else ''}; complete or remove it.")
    try:
        path, key = locate(row["path"], root)
        mask = locate(row["mask"], root)[0] if row.get("mask", "").strip() else None
    except DataError as error:
        raise DataError(f"In {where}, {error}.") from None
    try:
        split = parse_split(row.get("split"))
    except KeyError:
        raise DataError(
            f"{where}: split must be train, val, calibration, test or empty, got {row['split'].strip()!r}."
        ) from None
    return Entry(
        path=path,
        key=key,
        label=tidy(row.get("label")),
        patient=tidy(row.get("patient_id")),
        split=split,
        domain=tidy(row.get("domain")),
        frame=_frame(row.get("frame"), where),
        mask=mask,
        id=_salted_id(row.get("id")),
    )


def _frame(text: str | None, where: str) -> int | None:
    if not text or not text.strip():
        return None
    if not text.strip().isdecimal():
        raise DataError(f"{where}: frame must be a number from 0, or empty, got {text.strip()!r}.")
    return int(text)


def _salted_id(text: str | None) -> str | None:
    """An id that `movl-monai ingest` wrote; the ids of other programs may name patients and are left out."""
    return text.strip() if text and re.fullmatch(r"[0-9a-f]{12,64}", text.strip()) else None
