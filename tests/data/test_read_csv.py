"""CSV manifests as people and spreadsheets write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movl_monai.data.entries import Entry
from movl_monai.data.read_csv import read_csv
from movl_monai.errors import DataError

MakeCsv = Callable[..., Path]
TEXT = "path,label,patient_id,split,domain,frame\na/1.png,ill,p1,Training,id,\na/2.png,well,p2,,far,4\n"


def rewrite(csv: Path, content: bytes) -> Path:
    csv.write_bytes(content)
    return csv


@pytest.fixture
def csv(make_csv: MakeCsv) -> Path:
    return make_csv(*TEXT.splitlines())


def test_all_columns_are_read(csv: Path) -> None:
    root = csv.parent
    assert read_csv(csv).entries == [
        Entry(root / "a/1.png", "a/1.png", label="ill", patient="p1", split="train", domain="id"),
        Entry(root / "a/2.png", "a/2.png", label="well", patient="p2", split=None, domain="far", frame=4),
    ]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.encode("utf-16"),
        TEXT.replace("path,label", " Path , LABEL ").encode(),
        TEXT.replace("a/1.png", '"a/1.png"').encode(),
        TEXT.replace("a/", "a\\").encode(),
        TEXT.replace("\n", "\n\n,,\n").encode(),
        TEXT.rstrip("\n").encode(),
        TEXT.replace("path", "age,path").replace("a/", "70,a/").encode(),
    ],
    ids=["bom", "crlf", "semicolon", "tab", "utf16", "header", "quotes", "backslash", "blank", "no-newline", "extra"],
)
def test_every_dialect_gives_the_same_entries(csv: Path, content: bytes) -> None:
    expected = read_csv(csv).entries
    assert read_csv(rewrite(csv, content)).entries == expected


def test_windows_1252_is_read(csv: Path) -> None:
    entries = read_csv(rewrite(csv, TEXT.replace("ill", "grün").encode("cp1252"))).entries
    assert entries[0].label == "grün"


def test_a_missing_column_is_named(make_csv: MakeCsv) -> None:
    with pytest.raises(DataError, match="missing: label; found: path, class"):
        read_csv(make_csv("path,class", "a.png,ill"))


def test_a_column_given_twice_is_named(make_csv: MakeCsv) -> None:
    with pytest.raises(DataError, match="more than one column label"):
        read_csv(make_csv("path,label,label", "a.png,ill,well"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,ill,holdout,", r"row 3 of manifest.csv: split must be .* got 'holdout'"),
        ("b.png,ill,train,-1", r"row 3 of manifest.csv: frame must be .* got '-1'"),
        ("b.png,ill,train,first", r"row 3 of manifest.csv: frame must be .* got 'first'"),
        ("b.png,,train,", r"row 3 of manifest.csv must have a path and a label"),
        ("b.png,ill,train,,more", r"row 3 of manifest.csv has 5 values for 4 columns"),
        ("../b.png,ill,train,", r"In row 3 of manifest.csv, a path leads out"),
        ("a.png,well,train,", r"row 3 of manifest.csv contradicts an earlier row"),
        ('"b.png,ill,train,', r"manifest.csv is not valid CSV"),
    ],
)
def test_a_row_that_cannot_be_understood_is_numbered(make_csv: MakeCsv, row: str, message: str) -> None:
    csv = make_csv("path,label,split,frame", "a.png,ill,train,")
    with pytest.raises(DataError, match=message):
        read_csv(rewrite(csv, csv.read_bytes() + row.encode()))


def test_rows_given_twice_and_missing_files_are_skipped_with_the_reason(make_csv: MakeCsv) -> None:
    csv = make_csv("path,label", "a.png,ill", "a.png,ill", "b.png,well")
    (csv.parent / "b.png").unlink()
    listing = read_csv(csv)
    assert [entry.key for entry in listing.entries] == ["a.png"]
    assert [(file.key, file.reason) for file in listing.skipped] == [
        ("a.png", "duplicate_row"),
        ("b.png", "missing_file"),
    ]


def test_paths_belong_to_the_data_root_if_there_is_one(make_csv: MakeCsv, tmp_path: Path) -> None:
    csv = make_csv("path,label", "a.png,ill")
    moved = csv.rename(tmp_path / "list.csv")
    assert read_csv(moved).entries == []
    assert read_csv(moved, data_root=csv.parent).entries[0].path == csv.parent / "a.png"


def test_an_empty_file_lacks_all_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: path, label; found: none"):
        read_csv(rewrite(tmp_path / "x.csv", b""))


def test_a_mask_and_a_salted_id_are_carried(make_csv: MakeCsv) -> None:
    rows = ("a.png,x,masks/a.png,0123456789ab", "b.png,y,,Jane_Doe_7")
    first, second = read_csv(make_csv("path,label,mask,id", *rows)).entries
    assert first.mask is not None
    assert (first.mask.name, first.id) == ("a.png", "0123456789ab")
    assert (second.mask, second.id) == (None, None)


def test_a_mask_outside_of_the_folder_is_an_error(make_csv: MakeCsv) -> None:
    with pytest.raises(DataError, match="row 2 of manifest.csv, a path leads out"):
        read_csv(make_csv("path,label,mask", "a.png,x,../../a.png"))


def test_rows_may_lack_labels_where_none_are_needed(make_csv: MakeCsv) -> None:
    source = make_csv("path", "a.png")
    assert read_csv(source, labelled=False).entries[0].label is None
    with pytest.raises(DataError, match="missing: label"):
        read_csv(source)
