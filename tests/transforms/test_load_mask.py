"""The transforms of segmentations: as the function, in a chain before the image is loaded, in workers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from movl_monai.readers import Limits, MedicalImageError, read_segmentation
from movl_monai.transforms import LoadMedicalImage, LoadMedicalImaged, LoadSegmentation, LoadSegmentationd
from tests.readers.dicom.objects import as_file, shipped
from tests.readers.refusals import refused
from tests.readers.segmentations import LABELS, fractions, segmentation, source_series


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    sources = source_series()
    return {
        "image": as_file(sources[1], tmp_path / "DOE^JANE.dcm"),
        "mask": as_file(segmentation(sources), tmp_path / "mask.dcm"),
        "soft": as_file(segmentation(sources, fractions(), kind="FRACTIONAL"), tmp_path / "soft.dcm"),
    }


def test_the_transform_gives_the_tensor_of_the_function(files: dict[str, Path]) -> None:
    for options in ({}, {"as_channels": True}, {"segments": ["lesion"]}):
        expected, record = read_segmentation(files["mask"], files["image"], **options)
        mask, found = LoadSegmentation(**options).read(files["mask"], files["image"])
        assert type(mask) is torch.Tensor
        assert torch.equal(mask, torch.from_numpy(expected))
        assert found == record
        assert "DOE" not in json.dumps(record)
    soft = LoadSegmentation(as_channels=True, threshold=None)(files["soft"], files["image"])
    np.testing.assert_allclose(soft, fractions()[1].transpose(2, 0, 1), atol=1e-6)


def test_a_chain_gives_a_pair_of_one_size_and_orientation(files: dict[str, Path]) -> None:
    chain = Compose([LoadSegmentationd(record_key="mask_record"), LoadMedicalImaged(ct_windows=[[4096, 1023.5]])])
    item = chain({"image": str(files["image"]), "mask": str(files["mask"]), "label": 3})
    assert item["image"].shape[1:] == item["mask"].shape[1:] == LABELS.shape[1:]
    np.testing.assert_array_equal(item["mask"][0], LABELS[1])
    assert item["mask_record"]["segments"] == [1, 2]
    assert item["label"] == 3
    restored = pickle.loads(pickle.dumps(chain))({"image": str(files["image"]), "mask": str(files["mask"])})
    assert torch.equal(restored["mask"], item["mask"])


def test_several_masks_of_one_image_each_get_their_record(files: dict[str, Path]) -> None:
    load = LoadSegmentationd(["mask", "soft"], record_key="record", as_channels=True)
    item = load({key: str(path) for key, path in files.items()})
    assert item["record_mask"]["segmentation_type"] == "BINARY"
    assert item["record_soft"]["segmentation_type"] == "FRACTIONAL"
    assert item["image"] == str(files["image"])


def test_an_image_that_is_loaded_already_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(TypeError, match="'image' must be the path .* got Tensor; put LoadSegmentationd before"):
        LoadSegmentationd()({"image": torch.zeros(3, 4, 4), "mask": str(files["mask"])})


def test_without_an_image_key_a_single_plane_is_read() -> None:
    item = LoadSegmentationd(image_key=None)({"mask": shipped("liver_1frame.dcm")})
    assert item["mask"].shape == (1, 512, 512)
    assert item["mask"].sum() == 36233  # as highdicom counts, see test_masks


def test_options_and_limits_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="set as_channels=True"):
        LoadSegmentation(threshold=None)
    with pytest.raises(MedicalImageError, match="At most 100 values"):
        LoadSegmentation(limits={"values": 100})(shipped("liver_1frame.dcm"))
    assert LoadSegmentation(limits=Limits(frames=5)).limits == LoadSegmentation(limits={"frames": 5}).limits


def test_the_image_transform_names_the_mask_transform(files: dict[str, Path]) -> None:
    with refused("segmentation", "read it with LoadSegmentation"):
        LoadMedicalImage()(files["mask"], 0)
