"""Read a CSV manifest: `path,label[,mask,patient_id,split,domain,frame,id]`, and group columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from movl_monai.data.columns import check_for_splits, is_absent, unused_columns
from movl_monai.data.csv_text import ASSUMED, read_table
from movl_monai.data.entries import Entry, Listing, SkippedFile, file_problem, locate, parse_split, tidy
from movl_monai.errors import DataError

__all__ = ["read_csv"]

_REQUIRED = ("path", "label")
_OPTIONAL = ("patient_id", "split", "domain", "frame", "mask", "id")
_WORDS = ("label", "patient_id", "split")


def read_csv(
    source: Path,
    *,
    data_root: Path | None = None,
    labelled: bool = True,
    folders: bool = False,
    group_columns: Sequence[str] = (),
    groups_required: bool = True,
    splits: bool = True,
    encoding: str | None = None,
) -> Listing:
    """Return the entries of a CSV manifest.

    Columns are found by name, in any case and order; the listing's notes name unused columns. Delimiters are comma,
    semicolon, tab or bar, with any line ends. Text is UTF-8 or UTF-16, else of the given code page, else Windows-1252,
    with a note. Labels, patients and splits such as nan, NA and null are missing values. An ``id`` counts if it looks
    like a salted one. A repeated row is kept once and reported as ``duplicate_row``, a missing file as
    ``missing_file``.

    Args:
        source: the CSV file.
        data_root: base folder of relative paths, default the CSV's folder.
        labelled: False accepts rows, or the whole list, without labels.
        folders: whether a path may be a folder with one DICOM series.
        group_columns: further columns, found by name, whose values become the groups of an image.
        groups_required: whether a missing group column is an error.
        splits: whether to use the splits of the list; another column that names splits is then an error.
        encoding: code page of a list that is not Unicode.

    Raises:
        DataError: if the file is not text, a column is missing, the splits are in a column of another name, a row has
            no path or label, a split or frame cannot be understood, a path leads out of the folder, or one image has
            rows that contradict each other. Rows are numbered as a spreadsheet shows them: the header is row 1.
    """
    root = (data_root or source.parent).absolute()
    needed = [*(_REQUIRED if labelled else _REQUIRED[:1])]
    needed += [name.lower() for name in group_columns] if groups_required else []
    table = read_table(source, required=needed, known=(*_REQUIRED, *_OPTIONAL), encoding=encoding)
    used = (*_REQUIRED, *_OPTIONAL, *(name.lower() for name in group_columns))
    if splits:
        check_for_splits([row for _, row in table.rows], used, source.name)
    listing = Listing(notes=unused_columns(table.columns, used, source.name))
    if table.assumed:
        listing.notes.append(_assumption(source.name))
    first: dict[tuple[str, int | None], Entry] = {}
    for number, row in ((number, _without_absent(row)) for number, row in table.rows):
        where = f"row {number} of {source.name}"
        entry = _entry(row, root, where, labelled)
        entry.groups = {name: tidy(row.get(name.lower())) or "" for name in group_columns}
        earlier = first.setdefault((entry.key, entry.frame), entry)
        if earlier is not entry:
            if earlier != entry:
                raise DataError(f"{where} contradicts an earlier row of the same image; keep one of them.")
            listing.skipped.append(SkippedFile(entry.path, entry.key, "duplicate_row", entry.domain, entry.split))
        elif problem := file_problem(entry.path, folders=folders):
            lost = SkippedFile(entry.path, entry.key, problem, entry.domain, entry.split, row=number, label=entry.label)
            listing.skipped.append(lost)
        else:
            listing.entries.append(entry)
    return listing


def _assumption(name: str) -> str:
    return (
        f"{name} is not Unicode; it was read as Windows-1252 ({ASSUMED}). If the class names are garbled, save it as "
        "'CSV UTF-8' or name its code page with `--encoding`."
    )


def _without_absent(row: Mapping[str, str]) -> dict[str, str]:
    """Return the row with "" for missing values that are written as words."""
    return {name: "" if name in _WORDS and is_absent(value) else value for name, value in row.items()}


def _entry(row: dict[str, str], root: Path, where: str, labelled: bool) -> Entry:
    if not row.get("path", "").strip() or (labelled and not row.get("label", "").strip()):
        raise DataError(
            f"{where} must have a path{' and a label (nan, NA and null are none)' if labelled else ''}; complete or "
            "remove it."
        )
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
    """Return an id that `movl-monai ingest` wrote; ids of other programs may name patients and are ignored."""
    return text.strip() if text and re.fullmatch(r"[0-9a-f]{12,64}", text.strip()) else None
