"""Read a CSV manifest, `path,label[,mask,patient_id,split,domain,frame,id]`, of any code page and delimiter."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from movl_monai.data.columns import check_for_splits, is_absent, unused_columns
from movl_monai.data.entries import Entry, Listing, SkippedFile, file_problem, locate, parse_split, tidy
from movl_monai.data.findings import finding_columns, is_no_finding, read_cells, split_names
from movl_monai.data.label_forms import CLASSES, LabelForm, number_value
from movl_monai.errors import DataError

__all__ = ["ASSUMED", "Table", "read_csv", "read_table"]

_REQUIRED = ("path", "label")
_OPTIONAL = ("patient_id", "split", "domain", "frame", "mask", "id", "study", "series")
_WORDS = ("label", "patient_id", "split", "study", "series")
ASSUMED = "cp1252"
"""Code page of lists that are not Unicode: Excel's on Windows in Western Europe."""

_DELIMITERS = ",;\t|"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods are archives; .xls is an OLE file
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
# marks that stand between or beside Latin words: quotes, dashes, degrees, powers, fractions, currencies
_MARKS = "“”‘’‚„‹›«»–—…•°º²³¹¼½¾±×÷·§©®™€£¥µ¡¿\xa0"
_FOREIGN = re.compile(
    rf"[^\x00-\x7f{_MARKS}]{{3,}}"  # no Western word has three such letters in a row
    rf"|(?<![A-Za-z])[^\x00-\x7f{_MARKS}]{{2,}}(?![A-Za-z])"  # nor consists of them alone
    r"|[a-z][À-ÖØ-ÞŠŒŽŸ]"  # nor has a capital behind a small letter
    rf"|[A-Za-z][^\w\s\x00-\x7f{_MARKS}][A-Za-z]"  # nor a sign between letters
    r"|[A-Za-z][¹²³ªº¼½¾µ£¥€±×÷¡¿][a-z]"
)


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
    form: LabelForm = CLASSES,
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
        groups_required: whether a missing group column, or a missing one of ``form``, is an error.
        splits: whether to use the splits of the list; another column that names splits is then an error.
        encoding: code page of a list that is not Unicode.
        form: of the labels; without ``form.columns`` and without a column ``label``, the columns of findings are those
            of ``form.known``, else those that hold only 1, 0, -1 and blanks, which a note names.

    Raises:
        DataError: if the file is not text, a column is missing, the splits are in a column of another name, a row has
            no path or label, a split or frame cannot be understood, a path leads out of the folder, or one image has
            rows that contradict each other. Rows are numbered as a spreadsheet shows them: the header is row 1.
    """
    root = (data_root or source.parent).absolute()
    needed = [*(_REQUIRED if labelled and form.is_class else _REQUIRED[:1])]
    needed += [name.lower() for name in group_columns] if groups_required else []
    table = read_table(source, required=needed, known=(*_REQUIRED, *_OPTIONAL), encoding=encoding)
    used: tuple[str, ...] = (*_REQUIRED, *_OPTIONAL, *(name.lower() for name in group_columns))
    labels = {} if form.is_class else _label_columns(table, form, used, source.name, required=groups_required)
    used = (*used, *labels.values())
    if splits:
        check_for_splits([row for _, row in table.rows], used, source.name)
    listing = Listing(notes=unused_columns(table.columns, used, source.name))
    if labels:
        listing.class_names = [name for name in labels if not is_no_finding(name, form)]
        if not (form.columns or form.known):
            listing.notes.append(f"Columns of {source.name} taken as findings: {', '.join(listing.class_names)}.")
    if table.assumed:
        listing.notes.append(_assumption(source.name))
    first: dict[tuple[str, int | None], Entry] = {}
    for number, row in ((number, _without_absent(row)) for number, row in table.rows):
        where = f"row {number} of {source.name}"
        entry = _entry(row, root, where, labelled and form.is_class)
        if not form.is_class:
            _set_label(entry, row, labels, form, where)
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


def _label_columns(table: Table, form: LabelForm, used: Sequence[str], name: str, *, required: bool) -> dict[str, str]:
    """Return the column of each finding, or of the number, by name; {} for the column ``label``.

    Raises:
        DataError: if a column is missing or repeated, or no column can hold the labels.
    """
    wanted = {column: column.lower() for column in form.columns}
    present = {column: lower for column, lower in wanted.items() if lower in table.columns}
    if (missing := [column for column in wanted if column not in present]) and required and not form.known:
        raise DataError(f"{name} has no column {', '.join(missing)} (label_columns); found: {', '.join(table.names)}.")
    if not present and "label" in table.columns:
        return {}
    if not present:
        present = {column: column.lower() for column in form.known if column.lower() in table.columns}
    if not present and form.has_findings and not (wanted or form.known):
        free = [column for column in table.columns if column not in used]
        found = finding_columns([row for _, row in table.rows], free)
        present = {table.names[table.columns.index(column)]: column for column in found}
    if present and form.has_findings:
        present |= {
            name: name.lower() for name in table.names if is_no_finding(name, form) and name.lower() not in used
        }
    if not present and required:
        kind = "of each finding with 1, 0, -1 or blank" if form.has_findings else "of numbers"
        raise DataError(
            f"{name} must have the column label, or columns {kind} that label_columns names; found: "
            f"{', '.join(table.names)}."
        )
    if twice := [column for column, lower in present.items() if table.columns.count(lower) > 1]:
        raise DataError(f"{name} has more than one column {', '.join(twice)}; keep one.")
    return present


def _set_label(entry: Entry, row: Mapping[str, str], labels: Mapping[str, str], form: LabelForm, where: str) -> None:
    text, entry.label = entry.label, None
    if form.is_number:
        column = next(iter(labels.values()), "label")
        try:
            entry.target = number_value(row.get(column) or "")
        except ValueError as error:
            raise DataError(f"{where}: the column {column} {error}.") from None
    elif labels:
        cells = {name: row.get(column) or "" for name, column in labels.items()}
        entry.findings = read_cells(cells, form, where)
    elif text:
        entry.findings, entry.others = split_names(text, form, where), 0


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
        study=tidy(row.get("study")),
        series=tidy(row.get("series")),
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


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file.

    Args:
        columns: names of the columns, in small letters.
        names: names of the columns as they are written.
        rows: number of each row as a spreadsheet shows it (the header is row 1), and its values by column.
        assumed: the assumed code page; "" for Unicode or a given code page.
    """

    columns: list[str]
    names: list[str]
    rows: list[tuple[int, dict[str, str]]]
    assumed: str = ""


def read_table(source: Path, *, required: Sequence[str], known: Sequence[str], encoding: str | None = None) -> Table:
    """Read a CSV file with comma, semicolon, tab or bar, any line ends, and columns in any order.

    Args:
        source: the file.
        required: required columns.
        known: optional columns.
        encoding: code page; None reads Unicode, else assumes Windows-1252 if that gives Western words.

    Raises:
        DataError: if the file is not text, its code page is unknown, a column is missing or repeated, or a row has too
            many values or is not valid CSV.
    """
    text, assumed = _decode(source.read_bytes(), source.name, encoding)
    text, delimiter = _settle_ends(text)
    delimiter = delimiter or next((d for d in _DELIMITERS if "path" in map(str.lower, _first_row(text, d))), ",")
    names = _first_row(text, delimiter)
    columns = [name.lower() for name in names]
    _check_columns(columns, source.name, required, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    number = 1
    try:
        next(reader)
        for number, values in enumerate(reader, 2):
            if any(value.strip() for value in values):
                rows.append((number, _named(values, columns, f"row {number} of {source.name}")))
    except csv.Error as error:
        raise DataError(f"row {number + 1} of {source.name} is not valid CSV: {error}.") from error
    return Table(columns=columns, names=names, rows=rows, assumed=assumed)


def _decode(content: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    """Return the text, and the assumed code page."""
    if content.startswith(_SPREADSHEETS):
        raise DataError(f"{name} is a spreadsheet (or an archive) and no text; save it as 'CSV UTF-8'.")
    wide = next((codec for mark, codec in _BOMS if content.startswith(mark)), None) or _wide(content)
    if wide is None and b"\0" in content:
        raise DataError(f"{name} holds NUL bytes and is no text; save the list as 'CSV UTF-8'.")
    if wide is None and encoding is not None:
        return _checked(_decoded(content, name, encoding), name), ""
    try:
        return _checked(content.decode(wide or "utf-8"), name), ""
    except UnicodeDecodeError:
        if wide is not None:
            raise DataError(f"{name} begins like {wide.upper()} and is none; save it as 'CSV UTF-8'.") from None
    advice = (
        "save it as 'CSV UTF-8', or name its code page with `--encoding`, such as gbk, shift_jis, cp1251, mac_roman or "
        f"{ASSUMED} (encoding= in Python)"
    )
    try:
        text = content.decode(ASSUMED)
    except UnicodeDecodeError:
        raise DataError(f"{name} is neither Unicode nor Windows-1252 ({ASSUMED}); {advice}.") from None
    if _FOREIGN.search(text):
        raise DataError(f"{name} is not Unicode, and read as Windows-1252 ({ASSUMED}) it gives no words; {advice}.")
    return _checked(text, name), ASSUMED


def _decoded(content: bytes, name: str, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except LookupError:
        raise DataError(
            f"encoding {encoding!r} is no code page that Python knows; such are utf-8, cp1252, gbk, shift_jis, cp1251."
        ) from None
    except (UnicodeDecodeError, UnicodeError):
        raise DataError(
            f"{name} is not text in the code page {encoding!r}; name another one, or save it as UTF-8."
        ) from None


def _wide(content: bytes) -> str | None:
    """Return the codec of UTF-16 without a mark, recognised by NUL bytes beside Latin letters; None otherwise."""
    if len(content) < 4 or len(content) % 2:
        return None
    for codec, high in (("utf-16-le", content[1::2]), ("utf-16-be", content[::2])):
        low = content[::2] if codec == "utf-16-le" else content[1::2]
        if 2 * high.count(0) > len(high) and low.count(0) == 0:
            return codec
    return None


def _checked(text: str, name: str) -> str:
    """Return the text without a mark at its beginning or end.

    Raises:
        DataError: if it holds control characters, as binary files do.
    """
    text = text.lstrip("\ufeff").rstrip("\x1a")
    if _CONTROL.search(text):
        raise DataError(f"{name} holds control characters and is no text; save the list as 'CSV UTF-8'.")
    return text


def _settle_ends(text: str) -> tuple[str, str | None]:
    """Return the text with uniform line ends and without Excel's line `sep=;`, and the delimiter.

    The delimiter is the one that this line names; None without the line.
    """
    text = re.sub(r"\r\r?\n|\r", "\n", text).lstrip("\n")
    found = re.match(r'"?sep=(.)"?[ ,;\t]*\n', text, re.IGNORECASE)
    return (text, None) if found is None else (text[found.end() :], found[1])


def _first_row(text: str, delimiter: str) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [cell.strip() for cell in next(reader, [])]
    except csv.Error:
        return []


def _check_columns(columns: list[str], name: str, required: Sequence[str], known: Sequence[str]) -> None:
    missing = [column for column in required if column not in columns]
    optional = [column for column in known if column not in required]
    if missing:
        must = f"{name} must have the columns {', '.join(required)} (and may have {', '.join(optional)})"
        if any(re.search(r"[/\\]|\.[a-z0-9]{2,5}$|^\d+$", column) for column in columns):
            # the first row may be data, which messages must not repeat
            raise DataError(f"{must}; missing: {', '.join(missing)}. Its first row must name the columns.")
        raise DataError(f"{must}; missing: {', '.join(missing)}; found: {', '.join(columns) or 'none'}.")
    twice = {column for column in columns if columns.count(column) > 1 and column in (*required, *known)}
    if twice:
        raise DataError(f"{name} has more than one column {', '.join(sorted(twice))}; keep one.")


def _named(values: list[str], columns: list[str], where: str) -> dict[str, str]:
    if any(value.strip() for value in values[len(columns) :]):
        raise DataError(
            f"{where} has {len(values)} values for {len(columns)} columns; quote values that hold the comma."
        )
    return dict(zip(columns, values, strict=False))  # a short row lacks its last columns
