"""Text of lists: code pages, line ends, delimiters, and files that are no text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movl_monai.data.read_csv import read_csv
from movl_monai.errors import DataError

Make = Callable[..., Path]
HEADER, ROW = "path,label,patient_id,split", "1.png,{},p1,train"


@pytest.fixture
def write(make_csv: Make) -> Callable[[bytes], Path]:
    csv = make_csv(HEADER, ROW.format("x"))

    def rewrite(content: bytes) -> Path:
        csv.write_bytes(content)
        return csv

    return rewrite


def text_of(label: str) -> str:
    return f"{HEADER}\n{ROW.format(label)}\n"


@pytest.mark.parametrize(
    "content",
    [
        text_of("ill").replace("\n", "\r").encode(),
        text_of("ill").replace("\n", "\r\r\n").encode(),
        ("sep=;\n" + text_of("ill").replace(",", ";")).encode(),
        ("\ufeffsep=|\r\n" + text_of("ill").replace(",", "|")).encode(),
        text_of("ill").replace(",", "|").encode(),
        text_of("ill").encode("utf-16-le"),
        text_of("ill").encode("utf-16-be"),
        text_of("ill").encode("utf-32"),
        ("\n" + text_of("ill") + "\x1a").encode(),
    ],
    ids=["cr", "crcrlf", "sep", "bom-sep", "bar", "utf16-le", "utf16-be", "utf32", "dos-end"],
)
def test_more_dialects_give_the_same_entry(write: Callable[[bytes], Path], content: bytes) -> None:
    entry = read_csv(write(content)).entries[0]
    assert (entry.key, entry.label, entry.patient, entry.split) == ("1.png", "ill", "p1", "train")


@pytest.mark.parametrize(
    "label", ["grün", "Größe", "créée", "où", "Crohn’s disease", "naïve – œdème", "T2 ≤".replace("≤", "±")]
)
def test_western_words_are_read_and_the_code_page_is_said(write: Callable[[bytes], Path], label: str) -> None:
    listing = read_csv(write(text_of(label).encode("cp1252")))
    assert listing.entries[0].label == label
    assert any("Windows-1252" in note and "--encoding" in note for note in listing.notes)
    assert not any("1252" in note for note in read_csv(write(text_of(label).encode())).notes)


@pytest.mark.parametrize(
    ("label", "encoding"),
    [
        *(
            ("正常", "gbk"),
            ("是", "gbk"),
            ("肺炎", "big5"),
            ("正常", "shift_jis"),
            ("정상", "euc_kr"),
            ("норма", "cp1251"),
        ),
        *(("норма", "koi8_r"), ("Lungenentzündung", "mac_roman"), ("płuco", "cp1250"), ("φυσιολογικό", "cp1253")),
    ],
)
def test_other_code_pages_are_refused_until_they_are_named(
    write: Callable[[bytes], Path], label: str, encoding: str
) -> None:
    csv = write(text_of(label).encode(encoding))
    with pytest.raises(DataError, match="CSV UTF-8.*--encoding"):
        read_csv(csv)
    assert read_csv(csv, encoding=encoding).entries[0].label == label


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 archive", "is a spreadsheet .* save it as 'CSV UTF-8'"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a spreadsheet"),
        (b"path,label\n1.png,a\0b\n", "NUL bytes"),
        (b"path,label\n1.png,\x1b$B@5\n", "control characters"),
        (b"\xff\xfea", "begins like UTF-16"),
    ],
)
def test_a_file_that_is_no_text_is_refused(write: Callable[[bytes], Path], content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_csv(write(content))


@pytest.mark.parametrize(
    ("encoding", "message"), [("klingon", "no code page that Python knows"), ("ascii", "is not text")]
)
def test_a_code_page_that_does_not_fit_is_refused(write: Callable[[bytes], Path], encoding: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_csv(write(text_of("grün").encode("cp1252")), encoding=encoding)


def test_rows_are_numbered_as_a_spreadsheet_shows_them(write: Callable[[bytes], Path]) -> None:
    content = 'path,label,note\n1.png,a,"two\nlines"\n\n2.png,,\n'
    with pytest.raises(DataError, match=r"row 4 of manifest\.csv must have a path and a label"):
        read_csv(write(content.encode()))


def test_a_list_without_names_of_columns_is_not_repeated(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(DataError, match="first row must name the columns") as caught:
        read_csv(write(b"doe_jane/1.png,ill\n2.png,well\n"))
    assert "jane" not in str(caught.value)
