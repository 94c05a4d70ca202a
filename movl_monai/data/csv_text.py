"""Read the text of a CSV file as rows: code page, line ends, delimiter, and the names of the columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from movl_monai.errors import DataError

__all__ = ["ASSUMED", "Table", "read_table"]

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


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file.

    Args:
        columns: names of the columns, in small letters.
        rows: number of each row as a spreadsheet shows it (the header is row 1), and its values by column.
        assumed: the assumed code page; "" for Unicode or a given code page.
    """

    columns: list[str]
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
    delimiter = delimiter or next((d for d in _DELIMITERS if "path" in _first_row(text, d)), ",")
    columns = _first_row(text, delimiter)
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
    return Table(columns=columns, rows=rows, assumed=assumed)


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
        return [cell.strip().lower() for cell in next(reader, [])]
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
