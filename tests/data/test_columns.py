"""Columns that are not used, splits under another name, files that are not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from movl_monai.data import read_datalist
from movl_monai.data.columns import joined_labels
from movl_monai.data.read_csv import read_csv
from movl_monai.errors import DataError

Make = Callable[..., Path]


@pytest.mark.parametrize("column", ["set", "Fold", "phase", "PARTITION", "subset", "dataset_split", "usage"])
@pytest.mark.parametrize(
    "words", [("train", "test"), ("Training", "Validation"), ("train set", "holdout"), ("trn", "tst")]
)
def test_splits_in_a_column_of_another_name_are_not_passed_over(
    make_csv: Make, column: str, words: tuple[str, str]
) -> None:
    rows = [f"{n}.png,{'ab'[n % 2]},p{n},{words[n % 3 == 0]}" for n in range(12)]
    with pytest.raises(DataError, match=f"'{column.lower()}'.*Call the column 'split'"):
        read_datalist(make_csv(f"path,label,patient_id,{column}", *rows))


@pytest.mark.parametrize("values", [("0", "1"), ("train", "train"), ("left", "right"), ("test", "val")])
def test_other_columns_are_named_as_not_used(
    make_csv: Make, caplog: pytest.LogCaptureFixture, values: tuple[str, str]
) -> None:
    rows = [f"{n}.png,{'ab'[n % 2]},p{n},{values[n % 2]}," for n in range(12)]
    with caplog.at_level(logging.INFO):
        read_datalist(make_csv("path,label,patient_id,fold,modality", *rows))
    assert "not used: fold." in caplog.text


def test_a_split_column_that_is_filled_is_enough(make_csv: Make) -> None:
    rows = [f"{n}.png,a,{split},{split}" for n, split in enumerate(("train", "test"))]
    assert len(read_csv(make_csv("path,label,split,set", *rows)).entries) == 2
    assert (
        len(
            read_csv(
                make_csv("path,label,set", *(f"{n}.png,a,{s}" for n, s in enumerate(("train", "test")))), splits=False
            ).entries
        )
        == 2
    )


def test_an_empty_split_column_is_not_enough(make_csv: Make) -> None:
    with pytest.raises(DataError, match="'set'"):
        read_csv(make_csv("path,label,split,set", "1.png,a,,train", "2.png,a,,test"))


def test_splits_in_a_field_of_json_are_not_passed_over(make_images: Make) -> None:
    root = make_images(["1.png", "2.png"])
    content = {
        "training": [
            {"image": "1.png", "label": "a", "split": "train"},
            {"image": "2.png", "label": "b", "split": "test"},
        ]
    }
    (root / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="'split'.*under training, validation and test"):
        read_datalist(root, split_fractions=None)


def test_missing_values_are_no_labels_patients_or_splits(make_csv: Make) -> None:
    csv = make_csv("path,label,patient_id,split,domain", "1.png,a,NaN,nan,NA", "2.png,NA,null,,x")
    first, second = read_csv(csv, labelled=False).entries
    assert (first.patient, first.split, first.domain) == (None, None, "NA")
    assert (second.label, second.patient) == (None, None)
    with pytest.raises(DataError, match=r"row 3 .* label \(nan, NA and null are none\)"):
        read_csv(csv)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_class_whose_files_are_missing_is_named_so(make_csv: Make, form: str) -> None:
    csv = make_csv("path,label,patient_id", *(f"{n}.png,{'ab'[n % 2]},p{n}" for n in range(12)))
    for number in range(1, 12, 2):
        (csv.parent / f"{number}.png").unlink()
    source, where = csv, r"rows 3, 5, 7, 9, 11, 13"
    if form == "json":
        source, where = csv.with_name("x.json"), r"entries training\[1\], training\[3\]"
        entries = [{"image": f"{n}.png", "label": "ab"[n % 2]} for n in range(12)]
        source.write_text(json.dumps({"training": entries}))
    with pytest.raises(DataError, match=rf"No image of class 'b' is there\. 6 of 12 files .* are not there \({where}"):
        read_datalist(source)


def test_paths_without_suffix_are_told_so(make_csv: Make) -> None:
    csv = make_csv("path,label", "1.png,a", "2.png,b")
    csv.write_text(csv.read_text().replace(".png", ""))
    with pytest.raises(DataError, match=r"2 of 2 files .* \(rows 2, 3\); files of these names end in \.png"):
        read_datalist(csv)


@pytest.mark.parametrize("name", ["manifest.xlsx", "list.ods"])
def test_a_spreadsheet_is_to_be_saved_as_text(make_images: Make, name: str) -> None:
    root = make_images([])
    root.mkdir()
    (root / name).write_bytes(b"PK\x03\x04")
    for source in (root, root / name):
        with pytest.raises(DataError, match="save (it|the spreadsheet) as 'CSV UTF-8'"):
            read_datalist(source)


@pytest.mark.parametrize(
    ("labels", "joined"),
    [
        (["no", "referable|maculopathy"], ["referable|maculopathy"]),
        (["a", "b", "a;b"], ["a;b"]),
        (["a", "b", "a, c"], ["a, c"]),
        (["pneumonia, viral", "normal"], []),
        (["a", "b"], []),
    ],
)
def test_joined_labels_are_told_from_names(labels: list[str], joined: list[str]) -> None:
    assert joined_labels(labels) == joined


def test_reading_refuses_joined_labels(tmp_path: Path) -> None:
    for name in "xyz":
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    table = "path,label,patient_id\nx.png,a,1\ny.png,b,2\nz.png,a|b,3\n"
    (tmp_path / "list.csv").write_text(table)
    with pytest.raises(DataError, match=r"several labels per image: 'a\|b'"):
        read_datalist(tmp_path / "list.csv")
