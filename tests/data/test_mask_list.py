"""Lists of images with masks: the forms, patients, splits, cases, and entries that are left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from movl_monai.data import read_datalist, read_mask_datalist, read_unlabelled
from movl_monai.errors import DataError
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import source_series

Make = Callable[..., Path]


def _volumes(folder: Path, count: int, slices: int = 4) -> Path:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            values = np.random.default_rng(number).integers(0, 2, (6, 7, slices)).astype(np.uint8)
            nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), folder / name / f"v{number}.nii.gz")
    return folder


def _series(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, source in enumerate(source_series()):
        as_file(source, folder / f"{(3 * number) % 5}.dcm")
    return folder


def test_a_csv_names_masks_patients_and_splits(make_csv: Make) -> None:
    rows = [f"i{n}.png,i{n}.png,p{n},{split},id" for n, split in enumerate(("train", "train", "val", "test"))]
    datalist = read_mask_datalist(make_csv("path,mask,patient_id,split,domain", *rows), class_names=["no", "polyp"])
    assert datalist.class_names == ["no", "polyp"]
    assert [item["split"] for item in datalist] == ["train", "train", "val", "test"]
    assert all(item["mask"] == item["image"] and item["label"] is None for item in datalist)
    assert all(item["case"] == item["id"] for item in datalist)
    assert "(mask)" in datalist.summary()
    assert "polyp" not in datalist.summary()


def test_rows_without_a_mask_or_with_a_missing_one_are_reported(make_csv: Make) -> None:
    csv = make_csv("path,mask,split", "a.png,a.png,train", "b.png,,train", "c.png,nowhere.png,train")
    datalist = read_mask_datalist(csv, split_fractions=None)
    assert len(datalist) == 1
    assert sorted(file.reason for file in datalist.skipped) == ["image_without_mask", "missing_mask"]


def test_decathlon_json_with_paths_of_masks(make_images: Make, tmp_path: Path) -> None:
    root = make_images(["imagesTr/a.png", "labelsTr/a.png", "imagesTr/b.png", "labelsTr/b.png", "imagesTs/c.png"])
    content = {
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [{"image": "imagesTr/a.png", "label": "labelsTr/a.png"}],
        "validation": [{"image": "imagesTr/b.png", "mask": "labelsTr/b.png"}],
        "test": ["imagesTs/c.png"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    datalist = read_mask_datalist(root, split_fractions=None)
    assert datalist.class_names == ["background", "Anterior", "Posterior"]
    assert [(item["split"], Path(item["mask"]).name) for item in datalist] == [("train", "a.png"), ("val", "b.png")]
    assert [file.reason for file in datalist.skipped] == ["image_without_mask"]
    written = tmp_path / "written.json"
    datalist.write(written)
    again = read_mask_datalist(written, split_fractions=None)
    assert [(i["image"], i["mask"], i["id"]) for i in again] == [(i["image"], i["mask"], i["id"]) for i in datalist]


@pytest.mark.parametrize("label", [1, ["a"], ""])
def test_a_label_that_is_no_path_is_refused_where_masks_are_wanted(make_images: Make, label: Any) -> None:
    root = make_images(["a.png"])
    (root / "dataset.json").write_text(json.dumps({"training": [{"image": "a.png", "label": label}]}))
    with pytest.raises(DataError, match="path of a mask"):
        read_mask_datalist(root)


def test_slices_of_a_volume_stay_in_one_split_and_share_a_case(tmp_path: Path) -> None:
    datalist = read_mask_datalist(_volumes(tmp_path, 10), one_image_per_patient=True)
    assert len(datalist) == 40
    by_case: dict[str, list[dict[str, Any]]] = {}
    for item in datalist:
        by_case.setdefault(item["case"], []).append(item)
    assert len(by_case) == 10
    for items in by_case.values():
        assert [item["frame"] for item in items] == [0, 1, 2, 3]
        assert len({item["split"] for item in items}) == 1
        assert len({item["id"] for item in items}) == 4
        assert datalist.id_map.path_of(items[0]["case"]) == items[0]["image"]
    assert {item["split"] for item in datalist} == {"train", "val", "test"}


def test_a_split_needs_patients_or_the_statement_that_there_are_no_others(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one_image_per_patient"):
        read_mask_datalist(_volumes(tmp_path, 4))


@pytest.mark.parametrize(("axis", "count"), [("axial", 5), ("coronal", 12), ("sagittal", 10)])
def test_a_series_in_a_folder_is_one_volume(tmp_path: Path, axis: Any, count: int) -> None:
    _series(tmp_path / "images/case")
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((10, 12, 5), dtype=np.uint8), np.eye(4)), tmp_path / "masks/case.nii.gz")
    datalist = read_mask_datalist(tmp_path, split_fractions=None, slice_axis=axis)
    assert [item["frame"] for item in datalist] == list(range(count))
    assert {item["image"] for item in datalist} == {str(tmp_path / "images/case")}
    assert len({item["case"] for item in datalist}) == 1


def test_a_csv_may_name_the_folder_of_a_series(tmp_path: Path) -> None:
    _series(tmp_path / "case")
    nib.save(nib.Nifti1Image(np.zeros((10, 12, 5), dtype=np.uint8), np.eye(4)), tmp_path / "mask.nii")
    (tmp_path / "manifest.csv").write_text("path,mask,split\ncase,mask.nii,test\n")
    assert len(read_mask_datalist(tmp_path, split_fractions=None)) == 5
    (tmp_path / "classes.csv").write_text("path,label\ncase,a\n")
    with pytest.raises(DataError, match="not_regular_file 1"):  # an image of one class is a file
        read_datalist(tmp_path / "classes.csv")


def test_for_inference_a_folder_of_one_series_is_a_volume_and_other_files_are_images(
    tmp_path: Path, make_dicom: Make
) -> None:
    _series(tmp_path / "data/case")
    make_dicom(tmp_path / "data/single.dcm")
    grouped = read_unlabelled(tmp_path / "data", class_names=["a", "b"], series=True)
    assert sorted((Path(item["image"]).name, item.get("frame")) for item in grouped) == [
        *(("case", frame) for frame in range(5)),
        ("single.dcm", None),
    ]
    assert len({item["case"] for item in grouped}) == 2
    single = read_unlabelled(tmp_path / "data", class_names=["a", "b"])
    assert len(single) == 6
    assert "case" not in single[0]


def test_a_folder_with_several_series_stays_single_images(tmp_path: Path, make_dicom: Make) -> None:
    _series(tmp_path / "data")
    make_dicom(tmp_path / "data/other.dcm")
    assert len(read_unlabelled(tmp_path / "data", class_names=["a", "b"], series=True)) == 6


def test_other_sources_are_domains_of_their_own(tmp_path: Path) -> None:
    datalist = read_mask_datalist(
        _volumes(tmp_path / "here", 5), one_image_per_patient=True, ood_dataset_dirs=[_volumes(tmp_path / "there", 2)]
    )
    assert datalist.ood_domains == ["there"]
    assert {item["split"] for item in datalist.select(domain="there")} == {"test"}
    assert len(datalist.for_evaluation().select(domain="there")) == 8


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        read_mask_datalist(tmp_path / "nowhere")
    (tmp_path / "list.xlsx").write_text("")
    with pytest.raises(DataError, match="got '.xlsx'"):
        read_mask_datalist(tmp_path / "list.xlsx")
