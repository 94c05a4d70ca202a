"""Data sets of nnU-Net v2: read if each image is one file, refused with a reason if not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from movl_monai.data import read_datalist, read_mask_datalist
from movl_monai.data.sources import read_far_source
from movl_monai.errors import DataError

LABELS = {"background": 0, "organ": 1, "lesion": 2}


def nnunet(
    root: Path, *, cases: int = 6, ending: str = ".png", tests: bool = False, channels: int = 1, **content: Any
) -> Path:
    """A data set as nnU-Net lays it out; the last image of `imagesTs` has no mask."""
    folders = [("imagesTr", "labelsTr", cases), *([("imagesTs", "labelsTs", 2)] if tests else [])]
    for images, masks, count in folders:
        for folder in (images, masks):
            (root / folder).mkdir(parents=True)
        for number in range(count):
            for channel in range(channels):
                _write(root / images / f"case_{number:03d}_{channel:04d}{ending}", number)
            if images == "imagesTr" or number == 0:
                _write(root / masks / f"case_{number:03d}{ending}", 0)
    told = {"channel_names": {"0": "R"}, "labels": LABELS, "numTraining": cases, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(told | content))
    return root


def _write(path: Path, value: int) -> None:
    if path.name.endswith(".png"):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
    else:
        nib.save(nib.Nifti1Image(np.full((6, 6, 3), value, np.uint8), np.eye(4)), path)


def test_pictures_are_paired_without_their_channel(tmp_path: Path) -> None:
    root = nnunet(tmp_path, tests=True)
    datalist = read_mask_datalist(root, one_image_per_patient=True)
    assert datalist.class_names == ["background", "organ", "lesion"]
    names = {Path(item["image"]).name: Path(item["mask"]).name for item in datalist}
    assert names["case_004_0000.png"] == "case_004.png"
    assert len(datalist.select("test")) == 1
    assert len(datalist.select(["train", "val"])) == 6
    assert sorted(file.reason for file in datalist.skipped) == ["image_without_mask"]


def test_slices_of_volumes_are_read(tmp_path: Path) -> None:
    datalist = read_mask_datalist(nnunet(tmp_path, cases=3, ending=".nii.gz"), split_fractions=None)
    assert len(datalist) == 9
    assert not datalist.skipped


def test_files_without_partner_are_named(tmp_path: Path) -> None:
    root = nnunet(tmp_path)
    (root / "imagesTr/case_001_0000.png").unlink()
    (root / "labelsTr/case_002.png").unlink()
    skipped = read_mask_datalist(root, split_fractions=None).skipped
    reasons = {file.key: file.reason for file in skipped}
    assert reasons["labelsTr/case_001.png"] == "mask_without_image"
    assert reasons["imagesTr/case_002_0000.png"] == "image_without_mask"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "one for each channel .*_0001"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "trains regions"),
        ({"labels": {"background": 0, "lesion": 1, "ignore": 2}}, "'ignore'"),
        ({"labels": {"background": 0, "lesion": 2}}, r"numbered 0, 1, \.\.\. 1, got \[0, 2\]"),
        ({"labels": []}, "must have 'labels'"),
        ({"dataset": {"case_000": {"images": ["x.png"], "label": "y.png"}}}, "under 'dataset'"),
        ({"file_ending": ".tif"}, r"files end in '\.tif'"),
    ],
)
def test_other_data_sets_are_refused_with_the_reason(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_mask_datalist(nnunet(tmp_path, **options), split_fractions=None)


def test_classification_says_that_masks_are_for_segmentation(tmp_path: Path) -> None:
    root = nnunet(tmp_path)
    with pytest.raises(DataError, match="data set of nnU-Net.*path and label"):
        read_datalist(root)
    assert len(read_far_source(root).entries) == 6
