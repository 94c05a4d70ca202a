"""Volumes as lists of images: one patient in every form, chosen slices, masks that go along."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, list_data_collate
from monai.transforms import Compose
from PIL import Image

from movl_monai.readers import (
    read_dicom_volume,
    read_mask_volume,
    read_volume,
    slice_image,
    slices_to_volume,
    take_slice,
)
from movl_monai.transforms import CanonicalSlices, CanonicalSlicesd, ResizeImaged
from tests.readers.dicom.objects import as_file, shipped
from tests.readers.refusals import refused
from tests.readers.segmentations import AXIAL, LABELS, segmentation, source_series

SAGITTAL = (0, 1, 0, 0, 0, -1)
OBLIQUE = (0.8, 0.6, 0, -0.6, 0.8, 0)


def series_folder(folder: Path, orientation: Sequence[float] = AXIAL) -> tuple[Path, list[Any]]:
    """A folder whose file names are in another order than the slices, and the objects in order."""
    folder.mkdir()
    sources = source_series(orientation)
    for k, source in enumerate(sources):
        as_file(source, folder / f"{(3 * k) % 5}.dcm")
    return folder, sources


def as_nifti(folder: Path, target: Path) -> Path:
    """The same volume as NIfTI, written from SimpleITK's reading of the series."""
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(target))
    return target


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("intensity", ["percentile", "minmax", "ct"])
def test_one_patient_as_folder_files_nifti_and_volume_gives_one_tensor(
    orientation: Sequence[float], axis: str, intensity: str, tmp_path: Path
) -> None:
    folder, sources = series_folder(tmp_path / "series", orientation)
    slices = CanonicalSlices(axis=axis, intensity=intensity)
    expected = slices(folder)
    volume = read_dicom_volume([as_file(source) for source in sources])
    assert expected.shape[0] == volume.slice_count(axis)
    for source in (sorted(folder.iterdir()), [as_file(source) for source in sources], volume):
        assert torch.equal(slices(source), expected)
    assert torch.equal(slices(as_nifti(folder, tmp_path / "volume.nii.gz")), expected)
    for index, image in enumerate(expected):
        assert np.array_equal(image, slice_image(volume, index, axis=axis, intensity=intensity)[0])


def test_real_series_and_the_same_series_as_nifti_give_one_tensor(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "data/mr_series_dicom/hippocampus_crop"
    for axis in ("axial", "coronal", "sagittal"):
        slices = CanonicalSlices(axis=axis, every=7)
        found = slices(folder)
        assert len(found) > 1
        assert torch.equal(slices(as_nifti(folder, tmp_path / "volume.nii.gz")), found)


def test_slices_are_chosen_by_range_step_and_mask(tmp_path: Path) -> None:
    folder, sources = series_folder(tmp_path / "series")
    everything = CanonicalSlices()(folder)
    assert torch.equal(CanonicalSlices(every=2)(folder), everything[::2])
    assert torch.equal(CanonicalSlices(start=1, stop=4)(folder), everything[1:4])
    assert torch.equal(CanonicalSlices(start=4)(folder), everything[4:])
    mask = as_file(segmentation(sources))
    assert torch.equal(CanonicalSlices()(folder, mask), everything[1:3])
    assert torch.equal(CanonicalSlices(min_pixels=10)(folder, mask), everything[1:2])
    assert torch.equal(CanonicalSlices(every=2)(folder, mask), everything[2:3])


def test_a_mask_may_be_nifti_or_a_volume_and_must_lie_on_the_voxels(tmp_path: Path) -> None:
    folder, sources = series_folder(tmp_path / "series", OBLIQUE)
    volume = read_volume(folder)
    expected = read_mask_volume(as_file(segmentation(sources)), volume)
    planes = {k: take_slice(expected.values, k).astype(np.uint8) for k in range(volume.slice_count())}
    image = slices_to_volume(planes, volume)
    nib.save(image, tmp_path / "mask.nii.gz")
    for source in (tmp_path / "mask.nii.gz", str(tmp_path / "mask.nii.gz"), expected):
        np.testing.assert_array_equal(read_mask_volume(source, volume).values, expected.values)
    moved = image.affine.copy()
    moved[2, 3] += 3
    for wrong in (nib.Nifti1Image(image.dataobj, moved), nib.Nifti1Image(np.zeros((3, 3, 3)), image.affine)):
        with refused("mask_mismatch", "voxels away; resample it"):
            read_mask_volume(io.BytesIO(wrong.to_bytes()), volume)


def test_the_twin_makes_one_item_of_every_slice_and_compose_goes_on(tmp_path: Path) -> None:
    folder, sources = series_folder(tmp_path / "series")
    mask = as_file(segmentation(sources), tmp_path / "mask.dcm")
    chain = Compose(
        [
            CanonicalSlicesd(mask_key="mask", by_mask=True, record_key="record", intensity="minmax"),
            ResizeImaged("image", 16, mode="pad"),
        ]
    )
    items = chain({"image": str(folder), "mask": str(mask), "patient_id": "p1"})
    assert [item["frame"] for item in items] == [1, 2]
    for item in items:
        assert item["image"].shape == (3, 16, 16)
        assert item["patient_id"] == "p1"
        assert item["record"]["frame"] == item["frame"]
        assert item["mask"].dtype == torch.uint8
        np.testing.assert_array_equal(item["mask"][0], LABELS[item["frame"]])
    unmasked = CanonicalSlicesd(mask_key="mask")({"image": folder, "mask": mask})
    assert [int(item["mask"].max()) for item in unmasked] == [0, 2, 2, 0, 0]
    assert torch.equal(
        pickle.loads(pickle.dumps(chain))({"image": str(folder), "mask": str(mask)})[1]["image"], items[1]["image"]
    )


def test_monais_collation_makes_a_batch_of_the_slices_of_two_volumes(tmp_path: Path) -> None:
    folder, _ = series_folder(tmp_path / "series")
    data = Dataset([{"image": str(folder)}, {"image": str(folder)}], CanonicalSlicesd(every=2))
    (batch,) = DataLoader(data, batch_size=2, collate_fn=list_data_collate)
    assert batch["image"].shape == (6, 3, 12, 10)
    assert batch["frame"].tolist() == [0, 2, 4, 0, 2, 4]


def test_predictions_of_the_slices_come_back_onto_the_series(tmp_path: Path) -> None:
    folder, _ = series_folder(tmp_path / "series", OBLIQUE)
    volume = read_volume(folder)
    items = CanonicalSlicesd(intensity="minmax")({"image": volume})
    predicted = {item["frame"]: (item["image"][0] > 0.5).numpy() for item in items}
    result = slices_to_volume(predicted, volume)
    low, high, _ = volume.intensity_range("minmax")
    expected = volume.values > (low + high) / 2
    np.testing.assert_array_equal(
        np.asarray(result.dataobj), nib.orientations.apply_orientation(expected, volume.source_orientation)
    )


def test_of_a_folder_what_is_no_image_is_left_out_and_counted(tmp_path: Path) -> None:
    folder, _ = series_folder(tmp_path / "series")
    expected = CanonicalSlices()(folder)
    shutil.copy(shipped("rtstruct.dcm"), folder / "plan.dcm")
    (folder / "notes.txt").write_text("a text")
    (folder / "empty").touch()
    Image.new("L", (4, 4)).save(folder / "photo.png")
    (folder / "deeper").mkdir()
    as_file(source_series()[0], folder / "deeper" / "other.dcm")
    (folder / "link.dcm").symlink_to(folder / "deeper" / "other.dcm")
    assert torch.equal(CanonicalSlices()(folder), expected)
    assert read_volume(folder).record["skipped"] == 4
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "notes.txt").write_text("a text")
    with refused("not_image", "none of its 1 files"):
        read_volume(tmp_path / "nothing")


def test_two_series_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder, _ = series_folder(tmp_path / "series")
    as_file(source_series(SeriesInstanceUID="1.2.3")[0], folder / "other.dcm")
    with refused("bad_header", "with another series"):
        CanonicalSlices()(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "up"}, "axis must be one of"),
        ({"every": 0}, "every >= 1"),
        ({"start": 3, "stop": 3}, "start < stop"),
        ({"intensity": "z"}, "intensity must be one of"),
        ({"ct_windows": ["bones"]}, "bones"),
        ({"limits": {"values": 0}}, "values must be > 0"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict, message: str) -> None:
    for transform in (CanonicalSlices, CanonicalSlicesd):
        with pytest.raises(ValueError, match=message):
            transform(**options)


def test_ranges_and_masks_that_leave_no_slice_are_refused(tmp_path: Path) -> None:
    folder, sources = series_folder(tmp_path / "series")
    for options in ({"start": 5}, {"stop": 6}):
        with refused("bad_frame", "got 5 axial slices; choose a range within"):
            CanonicalSlices(**options)(folder)
    with refused("no_slices", "at least 1 pixels of the mask, got none"):
        CanonicalSlices(start=3)(folder, as_file(segmentation(sources)))
    with pytest.raises(ValueError, match="keys must be one key"):
        CanonicalSlicesd(["image", "other"])
    with pytest.raises(ValueError, match="needs mask_key"):
        CanonicalSlicesd(by_mask=True)


def test_a_mask_of_fractions_is_refused(tmp_path: Path) -> None:
    folder, _ = series_folder(tmp_path / "series")
    volume = read_volume(folder)
    with refused("mask_mismatch", "a mask of whole numbers"):
        CanonicalSlicesd(mask_key="mask")({"image": volume, "mask": CanonicalSlices().volume(_halved(volume))})


def _halved(volume: Any) -> Any:
    from dataclasses import replace

    return replace(volume, values=np.abs(volume.values) / 3000, _ranges={})
