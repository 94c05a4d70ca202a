"""Images and slices with their masks: the same cut and orientation, and refusal of wrong pairs."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from movl_monai.readers import MedicalImageError, slices_to_volume, take_slice
from movl_monai.transforms import LoadImageMask, LoadImageMaskd, LoadMedicalImage
from tests.readers.dicom.objects import as_file
from tests.readers.refusals import refused
from tests.readers.segmentations import LABELS, segmentation, source_series

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
AFFINES = {
    "RAS": np.diag([1.0, 2.0, 3.0, 1.0]),
    "LPS": np.diag([-1.0, -2.0, 3.0, 1.0]),
    "flipped": np.diag([1.0, -2.0, -3.0, 1.0]),
    "permuted": np.array([[0, 0, 2.0, 5], [1.5, 0, 0, -3], [0, -1.0, 0, 2], [0, 0, 0, 1.0]]),
    "oblique": np.block([[TURN @ np.diag([1.0, 2.0, 3.0]), np.array([[4.0], [5.0], [6.0]])], [np.zeros(3), 1.0]]),
    "anisotropic": np.diag([0.5, 0.5, 8.0, 1.0]),
}


def _volume(folder: Path, affine: np.ndarray, shape: tuple[int, int, int] = (6, 7, 5)) -> tuple[Path, Path, np.ndarray]:
    """A volume and the mask of its bright voxels, without any symmetry."""
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    labels = (values > 0.5).astype(np.uint8) + (values > 0.9)
    for name, array in (("image", values), ("mask", labels.astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    return folder / "image.nii.gz", folder / "mask.nii.gz", labels


def _png(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_a_slices_mask_is_cut_as_the_slice_and_put_back_lies_on_the_source(
    name: str, axis: str, tmp_path: Path
) -> None:
    image, mask, labels = _volume(tmp_path, AFFINES[name])
    load = LoadImageMask(num_classes=3, slice_axis=axis, nifti_range="minmax")  # type: ignore[arg-type]
    count = load.volume(image).slice_count(axis)  # type: ignore[arg-type]
    planes = {}
    for index in range(count):
        pixels, classes, record = load.read(image, mask, index)
        assert classes is not None
        # the mask marks exactly the bright voxels of the same slice
        assert np.array_equal(classes[0].numpy() >= 1, take_slice(load.volume(image).values, index, axis) > 0.5)  # type: ignore[arg-type]
        assert record["slice_axis"] == axis
        assert record["frames"] == count
        planes[index] = classes[0].numpy()
        assert torch.equal(pixels, LoadMedicalImage(slice_axis=axis, nifti_range="minmax")(image, index))  # type: ignore[arg-type]
    back = slices_to_volume(planes, load.volume(image), axis=axis)  # type: ignore[arg-type]
    np.testing.assert_allclose(back.affine, AFFINES[name], atol=1e-5)
    assert back.shape == (6, 7, 5)
    assert np.array_equal(np.asarray(back.dataobj), labels)


def test_a_single_slice_needs_no_index(tmp_path: Path) -> None:
    image, mask, labels = _volume(tmp_path, AFFINES["RAS"], (6, 7, 1))
    pixels, classes, record = LoadImageMask(num_classes=3).read(image, mask)
    assert classes is not None
    assert pixels.shape == (3, 7, 6)
    assert record["frame"] == 0
    assert int((classes >= 1).sum()) == int((labels >= 1).sum())


def test_neighbours_are_the_three_channels_and_the_ends_repeat(tmp_path: Path) -> None:
    image, _, _ = _volume(tmp_path, AFFINES["LPS"])
    plain, near = LoadImageMask(num_classes=3), LoadImageMask(num_classes=3, neighbors=True, ct_windows=["abdomen"])
    slices = [plain(image, None, index)[0] for index in range(5)]
    for index in range(5):
        channels = near(image, None, index)
        for channel, neighbor in enumerate((index - 1, index, index + 1)):
            assert torch.equal(channels[channel], slices[min(max(neighbor, 0), 4)])


def test_an_image_without_neighbours_is_as_it_is(tmp_path: Path) -> None:
    path = _png(tmp_path / "a.png", np.arange(12).reshape(3, 4) * 20)
    near = LoadImageMask(num_classes=2, neighbors=True, ct_windows=["abdomen"])
    assert torch.equal(near(path), LoadMedicalImage()(path))


def test_a_dicom_series_and_its_segmentation(tmp_path: Path) -> None:
    sources = source_series()
    (tmp_path / "series").mkdir()
    for number, source in enumerate(sources):
        as_file(source, tmp_path / "series" / f"{(3 * number) % 5}.dcm")
    as_file(segmentation(sources), tmp_path / "mask.dcm")
    load = LoadImageMask(num_classes=3)
    for index in range(5):
        pixels, classes, record = load.read(tmp_path / "series", tmp_path / "mask.dcm", index)
        assert classes is not None
        assert np.array_equal(classes[0], LABELS[index])
        assert record["intensity"] == "ct"
        assert torch.equal(pixels, LoadMedicalImage()(as_file(sources[index])))


def test_a_dicom_image_and_its_segmentation(tmp_path: Path) -> None:
    sources = source_series()
    as_file(sources[1], tmp_path / "image.dcm")
    as_file(segmentation(sources), tmp_path / "mask.dcm")
    _, classes, _ = LoadImageMask(num_classes=3).read(tmp_path / "image.dcm", tmp_path / "mask.dcm")
    assert classes is not None
    assert np.array_equal(classes[0], LABELS[1])


@pytest.mark.parametrize("change", ["shifted", "spacing", "shape"])
def test_a_volumes_mask_of_another_geometry_is_refused(change: str, tmp_path: Path) -> None:
    image, mask, labels = _volume(tmp_path, AFFINES["RAS"])
    affine = AFFINES["RAS"].copy()
    if change == "shifted":
        affine[0, 3] += 0.5
    elif change == "spacing":
        affine[2, 2] *= 1.2
    else:
        labels = labels[:, :, :4]
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), mask)
    with pytest.raises(MedicalImageError) as caught:
        LoadImageMask(num_classes=3).read(image, mask, 0)
    assert caught.value.reason == "mask_mismatch"


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    image, mask = _png(tmp_path / "a.png", np.zeros((4, 6))), _png(tmp_path / "b.png", np.zeros((6, 4)))
    with refused("mask_mismatch", "4 x 6 pixels, got 6 x 4"):
        LoadImageMask(num_classes=2).read(image, mask)


def test_a_volume_is_no_mask_of_a_picture(tmp_path: Path) -> None:
    _, mask, _ = _volume(tmp_path, AFFINES["RAS"], (6, 7, 1))
    with refused("mask_mismatch", "or the mask as PNG"):
        LoadImageMask(num_classes=3).read(_png(tmp_path / "a.png", np.zeros((7, 6))), mask)


@pytest.mark.parametrize(("value", "message"), [(3.0, "got also 3"), (0.5, "got also 0.5"), (np.nan, "NaN")])
def test_a_volumes_mask_of_other_values_is_refused(value: float, message: str, tmp_path: Path) -> None:
    image, mask, labels = _volume(tmp_path, AFFINES["RAS"])
    values = labels.astype(np.float32)
    values[0, 0, :] = value
    nib.save(nib.Nifti1Image(values, AFFINES["RAS"]), mask)
    with refused("mask_values", message):
        LoadImageMask(num_classes=3).read(image, mask, 2)


def test_nan_in_a_volume_is_black_and_flagged_and_its_mask_is_read(tmp_path: Path) -> None:
    image, mask, labels = _volume(tmp_path, AFFINES["RAS"])
    values = nib.load(image).get_fdata().astype(np.float32)
    values[0, 0, :] = np.nan
    nib.save(nib.Nifti1Image(values, AFFINES["RAS"]), image)
    pixels, classes, record = LoadImageMask(num_classes=3).read(image, mask, 2)
    assert "non_finite" in record["flags"]
    assert torch.isfinite(pixels).all()
    assert classes is not None
    assert int((classes >= 1).sum()) == int((labels[:, :, 2] >= 1).sum())
    nib.save(nib.Nifti1Image(np.full_like(values, np.nan), AFFINES["RAS"]), image)
    with pytest.raises(MedicalImageError) as caught:
        LoadImageMask(num_classes=3).read(image, mask, 2)
    assert caught.value.reason == "not_finite"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    image, mask, labels = _volume(tmp_path, AFFINES["RAS"])
    load = LoadImageMask(num_classes=3)
    before = load.read(image, mask, 2)[1]
    nib.save(nib.Nifti1Image(np.zeros_like(labels, dtype=np.int16), AFFINES["RAS"]), mask)
    after = load.read(image, mask, 2)[1]
    assert before is not None
    assert after is not None
    assert before.any()
    assert not after.any()


def test_kept_volumes_do_not_travel_to_workers(tmp_path: Path) -> None:
    image, mask, _ = _volume(tmp_path, AFFINES["RAS"], (30, 31, 32))
    load = LoadImageMask(num_classes=3)
    load.read(image, mask, 2)
    assert len(pickle.dumps(load)) < 10_000


def test_the_twin_replaces_the_paths_and_keeps_the_mask_as_it_was(tmp_path: Path) -> None:
    image, mask = _png(tmp_path / "a.png", np.zeros((4, 6))), _png(tmp_path / "b.png", np.ones((4, 6)))
    load = LoadImageMaskd(num_classes=2)
    result = load({"image": image, "mask": mask, "id": "a"})
    assert result["image"].shape == (3, 4, 6)
    assert torch.equal(result["mask"], torch.ones(1, 4, 6, dtype=torch.uint8))
    assert torch.equal(result["native_mask"], result["mask"])
    assert result["record"]["rows"] == 4
    assert result["id"] == "a"
    without = load({"image": image})
    assert "mask" not in without
    assert "native_mask" not in without


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "from 2"),
        ({"num_classes": 3, "mask_threshold": 128}, "two classes"),
        ({"num_classes": 2, "mask_threshold": 128, "mask_values": [0, 255]}, "two classes"),
        ({"num_classes": 2, "mask_values": [0]}, "2 different numbers"),
        ({"num_classes": 2, "mask_values": [7, 7]}, "2 different numbers"),
        ({"num_classes": 2, "neighbors": True}, "one CT window"),
        ({"num_classes": 2, "slice_axis": "diagonal"}, "axis"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadImageMask(**options)


def test_the_real_hippocampus_pairs_lie_on_each_other(test_data: Path) -> None:
    folder = test_data / "data/hippocampus_nifti"
    load = LoadImageMask(num_classes=3)
    name = "hippocampus_003.nii.gz"
    found = {
        int(value)
        for index in range(35)
        for value in load.read(folder / "images" / name, folder / "labels" / name, index)[1].unique()  # type: ignore[union-attr]
    }
    assert found == {0, 1, 2}
