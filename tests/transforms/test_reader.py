"""MONAI's LoadImage gives our pixels and no patient."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from PIL import Image
from torch.utils.data import default_collate

from movl_monai.readers import MedicalImageError
from movl_monai.transforms import LoadMedicalImage
from movl_monai.transforms.load import MedicalImageReader

# LoadImage registers all of MONAI's readers, one of which tells of a package that is not installed
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(levels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_load_image_gives_the_pixels_of_load_medical_image(path: Path) -> None:
    image = LoadImage(reader=MedicalImageReader(), ensure_channel_first=True)(path)
    assert torch.equal(image.as_tensor(), LoadMedicalImage()(path))
    chain = Compose([LoadImaged("image", reader=MedicalImageReader()), EnsureChannelFirstd("image")])
    assert torch.equal(chain({"image": path})["image"].as_tensor(), LoadMedicalImage()(path))


def test_the_reader_is_found_by_its_dotted_path_and_gets_options(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "volume.nii.gz")
    load = LoadImage("movl_monai.transforms.load.MedicalImageReader", frame=2, slice_axis="coronal")
    image = load(tmp_path / "volume.nii.gz")
    assert torch.equal(image.as_tensor(), LoadMedicalImage(slice_axis="coronal")(tmp_path / "volume.nii.gz", 2))
    assert image.affine.diagonal().tolist() == [4, 2, 1, 1]
    assert json.loads(image.meta["record"])["slice_axis"] == "coronal"


def test_meta_holds_the_contract_of_monai_and_collates(path: Path) -> None:
    _, meta = MedicalImageReader().get_data(MedicalImageReader().read(path))
    assert meta["original_channel_dim"] == 0
    assert meta["spatial_shape"].tolist() == [4, 6]
    assert np.array_equal(meta["affine"], np.eye(4))
    assert "filename_or_obj" not in meta
    assert json.loads(meta["record"]) == LoadMedicalImage().read(path)[1]
    assert default_collate([meta, meta])["spatial_shape"].tolist() == [[4, 6]] * 2


def test_several_files_become_channels_of_one_size(path: Path, tmp_path: Path) -> None:
    assert LoadImage(reader=MedicalImageReader())([path, path]).shape == (6, 4, 6)
    Image.new("L", (3, 3)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"must have one size, got \[\(3, 3, 3\), \(3, 4, 6\)\]"):
        LoadImage(reader=MedicalImageReader())([path, tmp_path / "small.png"])


def test_a_refused_file_is_not_handed_to_monais_other_readers(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros((4, 4)))
    with pytest.raises(MedicalImageError, match="of none of them"):
        LoadImage(reader=MedicalImageReader())(tmp_path / "array.npy")


def test_options_of_read_are_refused(path: Path) -> None:
    with pytest.raises(TypeError, match="takes no options, got dtype"):
        MedicalImageReader().read(path, dtype=float)
