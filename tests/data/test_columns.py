"""Columns that are not used, splits under another name, files that are not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from movl_monai.data import read_datalist
from movl_monai.data.columns import check_labels, joined_labels
from movl_monai.data.entries import Entry
from movl_monai.data.read_csv import read_csv
from movl_monai.errors import DataError

Make = Callable[..., Path]
SALT = "0123456789abcdef"


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


def rows(values: Sequence[str]) -> list[str]:
    splits = ("train", "train", "val", "val", "test", "test")
    places = [(split, "ab"[index % 2]) for index, split in enumerate(splits)]
    return [f"{i}.png,{label},p{i},{split},{values[i]}" for i, (split, label) in enumerate(places)]


def test_columns_become_groups_of_the_items(make_csv: Callable[..., Path]) -> None:
    csv = make_csv("path,label,patient_id,split,Sex", *rows(["F", " M ", "", "F", "M", "M"]))
    datalist = read_datalist(csv, group_columns=["sex"], id_salt=SALT)
    assert [item["groups"]["sex"] for item in datalist] == ["F", "M", "", "F", "M", "M"]


def test_without_group_columns_items_have_none(make_csv: Callable[..., Path]) -> None:
    datalist = read_datalist(make_csv("path,label,patient_id,split,sex", *rows("FMFMFM")), id_salt=SALT)
    assert not any("groups" in item for item in datalist)


def test_images_without_a_value_are_counted_in_the_log(
    make_csv: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    csv = make_csv("path,label,patient_id,split,sex", *rows(["F", "M", "", "", "M", "M"]))
    with caplog.at_level(logging.WARNING, logger="movl_monai"):
        read_datalist(csv, group_columns=["sex"], id_salt=SALT)
    assert "2 of 6 images of the domain id have no value in the column sex" in caplog.text


def test_another_source_may_lack_the_column(make_csv: Callable[..., Path], make_images: Callable[..., Path]) -> None:
    csv = make_csv("path,label,patient_id,split,sex", *rows("FMFMFM"))
    outside = make_images(["a/1.png", "b/1.png"], root="elsewhere")
    datalist = read_datalist(csv, ood_dataset_dirs=[outside], group_columns=["sex"], id_salt=SALT)
    assert not any("groups" in item for item in datalist.select(domain="elsewhere"))


def test_groups_come_back_from_a_written_list(make_csv: Callable[..., Path], tmp_path: Path) -> None:
    csv = make_csv("path,label,patient_id,split,sex", *rows("FMFMFM"))
    datalist = read_datalist(csv, group_columns=["sex"], id_salt=SALT)
    datalist.write(tmp_path / "datalist.json")
    again = read_datalist(tmp_path / "datalist.json", group_columns=["sex"], id_salt=SALT)
    assert [item["groups"] for item in again] == [item["groups"] for item in datalist]


def test_a_column_that_is_not_there_names_those_that_are(make_csv: Callable[..., Path]) -> None:
    csv = make_csv("path,label,patient_id,split,sex", *rows("FMFMFM"))
    with pytest.raises(DataError, match=r"missing: site; found: path, label, patient_id, split, sex"):
        read_datalist(csv, group_columns=["site"], id_salt=SALT)


def test_class_folders_have_no_columns(make_images: Callable[..., Path]) -> None:
    folder = make_images(f"{split}/{label}/1.png" for split in ("train", "val", "test") for label in "ab")
    with pytest.raises(DataError, match=r"is a folder without one; add a manifest\.csv"):
        read_datalist(folder, group_columns=["sex"])


def test_a_column_with_a_value_per_image_is_refused_without_repeating_values(make_images: Callable[..., Path]) -> None:
    root = make_images(f"{index}.png" for index in range(60))
    lines = [f"{i}.png,{'ab'[i % 2]},{'train' if i < 40 else 'test'},Smith-{i}" for i in range(60)]
    (root / "manifest.csv").write_text("\n".join(["path,label,split,name", *lines]))
    with pytest.raises(DataError, match=r"'name' has 60 different values, expected at most 50") as error:
        read_datalist(root, group_columns=["name"], split_fractions=None)
    assert "Smith" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("sex", "must be a list of columns, got the text 'sex'"),
        (["sex", "Sex"], "must be different, non-empty names"),
        (["sex", " "], "must be different, non-empty names"),
        (["Patient_ID"], "Patient_ID has a meaning of its own"),
    ],
)
def test_columns_that_make_no_group_are_refused(
    make_csv: Callable[..., Path], columns: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_datalist(make_csv("path,label,patient_id,split,sex", *rows("FMFMFM")), group_columns=columns)


def test_an_empty_column_is_refused(make_csv: Callable[..., Path]) -> None:
    csv = make_csv("path,label,patient_id,split,sex", *rows([""] * 6))
    with pytest.raises(DataError, match="No image has a value in the column 'sex'"):
        read_datalist(csv, group_columns=["sex"], id_salt=SALT)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["37.5", "36.9", "37.5"], "2 labels look like measurements.*36.9, 37.5"),
        ([str(age) for age in range(31)] * 4, "31 labels look like measurements"),
        ([f"case {number}" for number in range(20)], "20 images have 20 different labels, but a class needs"),
        (["0", "1.0", "2"], ""),
        ([f"kind {number}" for number in range(20)] * 2, ""),
    ],
)
def test_measurements_and_names_of_images_are_no_classes(labels: list[str], message: str) -> None:
    entries = [
        Entry(path=Path(f"{number}.png"), key=f"{number}.png", label=label) for number, label in enumerate(labels)
    ]
    check_labels(entries, known=set(labels))
    if not message:
        check_labels(entries)
        return
    with pytest.raises(DataError, match=message) as error:
        check_labels(entries)
    assert "case 1" not in str(error.value)
