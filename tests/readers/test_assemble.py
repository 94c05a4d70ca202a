"""Slices chosen, and predictions put back voxel by voxel onto their source."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from movl_monai.readers.nifti import read_nifti
from movl_monai.readers.slices import canonical_volume, choose_slices, slices_to_volume, take_slice
from movl_monai.readers.volume import read_dicom_volume
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import source_series

SHAPE = (4, 5, 6)


def affine_for(codes: str) -> np.ndarray:
    affine = nib.orientations.inv_ornt_aff(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)),
        SHAPE,
    )
    affine[:3, :3] = affine[:3, :3] @ np.diag([0.5, 1.5, 3])
    affine[:3, 3] = [7, -8, 9]
    return affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "ASR"])
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_slices_put_back_are_the_source_with_its_shape_and_affine(codes: str, axis: str) -> None:
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    source = nib.Nifti1Image(values, affine_for(codes))
    volume = read_nifti(io.BytesIO(source.to_bytes()))
    slices = {index: take_slice(volume.values, index, axis) for index in range(volume.slice_count(axis))}
    result = slices_to_volume(slices, volume, axis=axis)
    assert np.array_equal(np.asarray(result.dataobj), values)
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-5)


def test_missing_slices_are_filled() -> None:
    volume = canonical_volume(np.zeros(SHAPE), np.diag([-1.0, -1, 1, 1]), record={})
    result = np.asarray(slices_to_volume({2: np.full((5, 4), 7, dtype=np.uint8)}, volume, fill=255).dataobj)
    assert np.unique(result[:, :, 2]).tolist() == [7]
    assert np.unique(np.delete(result, 2, axis=2)).tolist() == [255]


@pytest.mark.parametrize(
    ("dtype", "stored"), [("bool", "uint8"), ("int64", "int32"), ("float64", "float32"), ("int16", "int16")]
)
def test_dtypes_are_those_that_every_reader_knows(dtype: str, stored: str) -> None:
    volume = canonical_volume(np.zeros(SHAPE), np.eye(4), record={})
    assert slices_to_volume({0: np.ones((5, 4), dtype=dtype)}, volume).get_data_dtype() == stored


def test_predictions_of_another_size_dtype_or_index_are_refused() -> None:
    volume = canonical_volume(np.zeros(SHAPE), np.eye(4), record={})
    plane = np.zeros((5, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"slice 0 must be uint8 \(5, 4\).* got uint8 \(224, 224\); resize"):
        slices_to_volume({0: np.zeros((224, 224), dtype=np.uint8)}, volume)
    with pytest.raises(ValueError, match=r"slice 1 must be uint8 \(5, 4\).* got float32"):
        slices_to_volume({0: plane, 1: plane.astype(np.float32)}, volume)
    with pytest.raises(ValueError, match="from 0 to 5, got 6"):
        slices_to_volume({6: plane}, volume)
    with pytest.raises(ValueError, match="at least one prediction, got none"):
        slices_to_volume({}, volume)


def test_slices_are_chosen_by_range_step_and_mask() -> None:
    volume = canonical_volume(np.zeros(SHAPE), np.diag([-1.0, -1, 1, 1]), record={})
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 0, 2] = mask[:, :, 4] = True
    assert choose_slices(volume) == [0, 1, 2, 3, 4, 5]
    assert choose_slices(volume, axis="sagittal", every=2) == [0, 2]
    assert choose_slices(volume, start=1, stop=4, every=2) == [1, 3]
    assert choose_slices(volume, mask=mask) == [2, 4]
    assert choose_slices(volume, mask=mask, min_pixels=2) == [4]
    assert choose_slices(volume, mask=mask, axis="sagittal", stop=1) == [0]
    assert choose_slices(volume, mask=np.zeros(SHAPE)) == []


@pytest.mark.parametrize("options", [{"every": 0}, {"start": -1}, {"start": 3, "stop": 3}, {"stop": 7}])
def test_impossible_ranges_are_refused(options: dict) -> None:
    volume = canonical_volume(np.zeros(SHAPE), np.eye(4), record={})
    with pytest.raises(ValueError, match="0 <= start < stop <= 6"):
        choose_slices(volume, **options)


def test_a_mask_of_another_volume_is_refused() -> None:
    volume = canonical_volume(np.zeros(SHAPE), np.eye(4), record={})
    with pytest.raises(ValueError, match=r"shape of the volume in LPS, \(4, 5, 6\), got \(6, 5, 4\)"):
        choose_slices(volume, mask=np.zeros((6, 5, 4)))


def test_a_real_mask_put_back_slice_by_slice_equals_its_file(test_data: Path) -> None:
    path = min((test_data / "data/hippocampus_nifti/labels").glob("hippocampus_*.nii.gz"))
    stored = nib.load(path)
    volume = read_nifti(path)
    chosen = choose_slices(volume, axis="coronal", mask=volume.values)
    assert 0 < len(chosen) < volume.slice_count("coronal")
    slices = {index: take_slice(volume.values, index, "coronal").astype(np.uint8) for index in chosen}
    result = slices_to_volume(slices, volume, axis="coronal")
    assert np.array_equal(np.asarray(result.dataobj), np.asarray(stored.dataobj))
    np.testing.assert_allclose(result.affine, stored.affine, atol=1e-5)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_predictions_for_a_dicom_series_lie_where_simpleitk_sees_the_series(
    orientation: tuple[float, ...], tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sources = source_series(orientation)
    paths = [as_file(source, tmp_path / f"{k}.dcm") for k, source in enumerate(sources)]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    expected = reader.Execute()

    volume = read_dicom_volume(paths)
    slices = {k: take_slice(volume.values, k, "axial").astype(np.int16) for k in range(volume.slice_count())}
    nib.save(slices_to_volume(slices, volume), tmp_path / "predicted.nii.gz")
    found = sitk.ReadImage(str(tmp_path / "predicted.nii.gz"))
    assert found.GetSize() == expected.GetSize()
    assert found.GetPixelID() == sitk.sitkInt16
    np.testing.assert_allclose(found.GetOrigin(), expected.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(found.GetSpacing(), expected.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))


@pytest.mark.parametrize("codes", ["RAS", "PIR", "SAL"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_predictions_for_a_nifti_file_lie_where_every_reader_sees_the_file(
    codes: str, dtype: type, tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    source = nib.Nifti1Image(values, affine_for(codes))
    source.set_qform(affine_for(codes), code=1)
    nib.save(source, tmp_path / "source.nii.gz")
    volume = read_nifti(tmp_path / "source.nii.gz")
    slices = {k: take_slice(volume.values, k).astype(dtype) for k in range(volume.slice_count())}
    nib.save(slices_to_volume(slices, volume), tmp_path / "predicted.nii.gz")
    expected, found = (sitk.ReadImage(str(tmp_path / name)) for name in ("source.nii.gz", "predicted.nii.gz"))
    assert found.GetPixelID() == expected.GetPixelID()
    np.testing.assert_allclose(found.GetOrigin(), expected.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
    header = nib.load(tmp_path / "predicted.nii.gz").header
    assert header.get_data_dtype() == dtype
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-5)


def test_a_sheared_volume_is_placed_by_its_sform_alone(tmp_path: Path) -> None:
    affine = affine_for("LPS")
    affine[1, 2] = 0.8
    volume = canonical_volume(np.zeros(SHAPE), affine, record={})
    result = slices_to_volume({0: np.zeros((5, 4), dtype=np.uint8)}, volume)
    nib.save(result, tmp_path / "predicted.nii")
    stored = nib.load(tmp_path / "predicted.nii")
    assert int(stored.header["qform_code"]) == 0
    np.testing.assert_allclose(stored.affine, affine, atol=1e-5)
