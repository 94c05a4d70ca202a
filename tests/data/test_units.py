"""Units: which images belong together, their order, labels, splits, and the data set of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from movl_monai.data import (
    ImageDataset,
    UnitDataset,
    Units,
    decode_images,
    read_datalist,
    read_unlabelled,
    select_images,
)
from movl_monai.data.make_splits import make_kept_splits
from movl_monai.errors import ConfigError, DataError, LeakageError
from tests.data.conftest import read_png

MakeCsv = Callable[..., Path]
HEADER = "path,label,patient_id,split"
ROWS = ("b10.png,no,P1,train", "b9.png,no,P1,train", "c.png,yes,P2,train", "d.png,nan,P2,train", "e.png,no,P3,val")
ROWS += ("f.png,yes,P4,val",)
PATIENT = Units(unit="patient")


def _dataset(source: Path, units: Units = PATIENT, **options: Any) -> UnitDataset:
    datalist = read_datalist(source, units=units, split_fractions=None, id_salt="0" * 16)
    found = decode_images(datalist, read_png, progress=False, **options)
    assert isinstance(found, UnitDataset)
    return found


def test_images_of_a_patient_are_one_item_in_natural_order(make_csv: MakeCsv) -> None:
    dataset = _dataset(make_csv(HEADER, *ROWS))
    assert [len(item["members"]) for item in dataset.data] == [2, 2, 1, 1]
    assert dataset.labels.tolist() == [0, 1, 0, 1]  # the blank label of P2 stands beside
    assert dataset.patients == ["P1", "P2", "P3", "P4"]
    labelled = [row.replace(",nan,", ",yes,") for row in ROWS]
    datalist = read_datalist(make_csv(HEADER, *labelled), split_fractions=None, id_salt="0" * 16)
    plain = ImageDataset(datalist, read_png, progress=False)
    rows = {item["id"]: row for row, item in enumerate(plain.data)}
    for index, item in enumerate(dataset.data):
        expected = plain.images[[rows[name] for name, _ in item["members"]]]
        assert torch.equal(dataset[index]["image"], expected)
    names = [Path(item["image"]).name for item in dataset.instances]
    assert names == ["b9.png", "b10.png", "c.png", "d.png", "e.png", "f.png"]


def test_a_selection_keeps_the_groups_and_can_leave_images_out(make_csv: MakeCsv) -> None:
    datalist = read_datalist(make_csv(HEADER, *ROWS), units=PATIENT, split_fractions=None)
    images = decode_images(datalist, read_png, progress=False)
    val = select_images(images, datalist.select("val"), split="val", with_images=False)
    assert [len(rows) for rows in val.ranges] == [1, 1]  # type: ignore[attr-defined]
    assert val[1]["image"].shape == (0,)
    assert val[1]["label"] == 1
    assert len(make_kept_splits(datalist, images).images) == 6


def test_slices_are_ordered_by_position_and_thinned(make_dicom: Callable[..., Path], tmp_path: Path) -> None:
    geometry = {"Modality": "CT", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "StudyInstanceUID": "1.2.3"}
    for number, z in enumerate((30, 10, 20, 0)):
        place = {"ImagePositionPatient": [0, 0, z], "SeriesInstanceUID": "1.2.3.4", "PatientID": "DOE"}
        make_dicom(tmp_path / f"{number}.dcm", **geometry, **place)
    make_dicom(tmp_path / "x.dcm", **geometry, SeriesInstanceUID="1.2.3.5", PatientID="DOE")

    def names(**options: Any) -> list[list[str]]:
        found = read_unlabelled(tmp_path, class_names=["a", "b"], units=Units(**options))
        units: dict[str, list[tuple[int, str]]] = {}
        for item in found:
            units.setdefault(item["unit"], []).append((item["instance"], Path(item["image"]).stem))
        return [[name for _, name in sorted(part)] for part in units.values()]

    assert sorted(names(unit="series")) == [["3", "1", "2", "0"], ["x"]]
    assert names(unit="study") == names(unit="patient") == [["3", "1", "2", "0", "x"]]
    assert sorted(names(unit="series", every_nth=2)) == [["3", "2"], ["x"]]
    assert sorted(names(unit="series", max_instances=2)) == [["1", "0"], ["x"]]
    assert "DOE" not in repr([item["unit"] for item in read_unlabelled(tmp_path, class_names="ab", units=PATIENT)])


def test_a_column_names_the_unit_and_a_volume_is_a_series(make_csv: MakeCsv) -> None:
    rows = ("a.png,no,P1,s1", "b.png,no,P1,s2", "c.png,yes,P2,s3", "d.png,yes,P3,s4", "e.png,no,P4,s4")
    source = make_csv("path,label,patient_id,study", *rows[:4])
    options: Any = {"split_fractions": None}
    found = [
        len({item["unit"] for item in read_datalist(source, units=Units(unit=u), **options)})
        for u in ("study", "series")
    ]
    assert found == [4, 4]
    with pytest.raises(DataError, match=r"1 study is of two patients \([0-9a-f]{12}\)"):
        read_datalist(
            make_csv("path,label,patient_id,study", *rows[:3], rows[3], rows[4].replace(",no,", ",yes,")),
            units=Units(unit="study"),
            **options,
        )


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        (
            ("a.png,no,P1,train", "b.png,yes,P1,train"),
            DataError,
            r"different labels \([0-9a-f]{12}\).*--unit_label max",
        ),
        (("a.png,no,,train", "b.png,yes,P1,train"), DataError, "patient of 1 of 2 images is not known"),
    ],
)
def test_images_that_make_no_unit_are_refused(
    rows: tuple[str, ...], error: type[Exception], said: str, make_csv: MakeCsv
) -> None:
    rest = ("v.png,no,P8,val", "w.png,yes,P9,val") if "known" not in said else ()
    with pytest.raises(error, match=said):
        read_datalist(make_csv(HEADER, *rows, *rest), units=PATIENT, split_fractions=None)


def test_a_unit_in_two_splits_is_a_leak(make_csv: MakeCsv) -> None:
    rows = ("a.png,no,,train,s1", "b.png,no,,test,s1", "c.png,yes,,train,s2", "d.png,yes,,val,s3", "e.png,no,,val,s4")
    with pytest.raises(LeakageError, match="1 study is in two splits"):
        read_datalist(make_csv("path,label,patient_id,split,study", *rows), units=Units(unit="study"))


def test_the_highest_label_can_count(make_csv: MakeCsv) -> None:
    rows = ("a.png,no,P1,train", "b.png,yes,P1,train", "c.png,no,P2,train", "v.png,no,P8,val", "w.png,yes,P9,val")
    dataset = _dataset(make_csv(HEADER, *rows), Units(unit="patient", unit_label="max"))
    assert dataset.labels.tolist() == [1, 0, 0, 1]


def test_units_without_a_readable_image_are_reported(make_csv: MakeCsv) -> None:
    source = make_csv(HEADER, *ROWS)
    for name in ("b9.png", "e.png"):
        (source.parent / name).write_bytes((source.parent / name).read_bytes()[:40])
    dataset = _dataset(source, max_unreadable=1.0)
    assert [len(item["members"]) for item in dataset.data] == [1, 2, 1]
    outcomes = dataset.outcomes()
    assert [one.reason != "" for one in outcomes] == [False, False, True, False]
    assert [one.record.get("unreadable") for one in outcomes] == [1, None, 1, None]


def test_settings_out_of_range_are_refused() -> None:
    for options in ({"unit": "image"}, {"every_nth": 0}, {"max_instances": 0}, {"unit_label": "mean"}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
            Units(**{"unit": "series", **options})  # type: ignore[arg-type]


def test_augmentations_are_refused(make_csv: MakeCsv) -> None:
    with pytest.raises(ConfigError, match="cached features"):
        _dataset(make_csv(HEADER, *ROWS)).select("train", augment=lambda image: image)
