"""Tests of groups from columns of a list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from movl_monai.data import read_datalist
from movl_monai.errors import DataError

SALT = "0123456789abcdef"


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
