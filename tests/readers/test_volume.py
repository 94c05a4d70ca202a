"""A DICOM series as a volume: positions decide, irregular series are flagged or refused, NIfTI agrees."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from movl_monai.evaluation.mask_files import mask_amounts, voxel_volumes
from movl_monai.readers.dicom import Limits, read_dicom
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.nifti import read_nifti, read_nifti_slice
from movl_monai.readers.slices import slice_image, take_slice
from movl_monai.readers.volume import read_dicom_volume
from tests.readers.refusals import refused

AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)
STORED = np.random.default_rng(0).integers(0, 2000, (6, 4, 5), dtype=np.int16)  # slices, rows, columns


def dicom(
    pixels: np.ndarray, position: Sequence[float], orientation: Sequence[float] = AXIAL, **tags: Any
) -> io.BytesIO:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID = "MR", "1.2.3"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), list(orientation)
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.8], 2.5
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = pixels.astype("<i2").tobytes()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value) if value is not None else delattr(dataset, keyword)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file


def series(places: Sequence[float] = range(0, 18, 3), orientation: Sequence[float] = AXIAL) -> list[io.BytesIO]:
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        dicom(pixels, np.array([-10.0, 20, 30]) + place * normal, orientation)
        for pixels, place in zip(STORED, places, strict=False)
    ]


def test_the_values_are_sorted_along_the_normal_whatever_the_order_and_the_instance_numbers() -> None:
    files = series()
    for order in ([0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]):
        volume = read_dicom_volume([files[index] for index in order])
        assert np.array_equal(volume.values, STORED.transpose(2, 1, 0))
        assert volume.flags == ()
    np.testing.assert_allclose(volume.affine, [[0.8, 0, 0, -10], [0, 0.5, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    assert volume.spacing == pytest.approx((0.8, 0.5, 3))
    assert volume.record == {
        "format": "dicom",
        "modality": "MR",
        "files": 6,
        "slice_positions": [0, 3, 6, 9, 12, 15],
        "decoder": "native",
    }


@pytest.mark.parametrize(
    "orientation", [AXIAL, SAGITTAL, (1, 0, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0), (-1, 0, 0, 0, -1, 0)]
)
@pytest.mark.parametrize("intensity", ["percentile", "ct"])
def test_the_same_volume_as_nifti_gives_the_same_slices(orientation: Sequence[float], intensity: str) -> None:
    volume = read_dicom_volume(series(orientation=orientation))
    normal = np.cross(orientation[:3], orientation[3:])
    lps = np.eye(4)
    lps[:3] = np.stack(
        [np.multiply(orientation[:3], 0.8), np.multiply(orientation[3:], 0.5), 3 * normal, [-10, 20, 30]], 1
    )
    nifti = nib.Nifti1Image(STORED.transpose(2, 1, 0).astype(np.float32), np.diag([-1, -1, 1, 1]) @ lps)
    file = io.BytesIO(nifti.to_bytes())
    np.testing.assert_allclose(read_nifti(file).affine, volume.affine, atol=1e-5)
    for axis in ("axial", "coronal", "sagittal"):
        for index in range(volume.slice_count(axis)):
            expected, _ = read_nifti_slice(file, slice_index=index, axis=axis, intensity=intensity)
            image, record = slice_image(volume, index, axis=axis, intensity=intensity)
            assert np.array_equal(image, expected)
    assert record["modality"] == "MR"


@pytest.mark.parametrize(
    ("orientation", "axis"), [(AXIAL, "axial"), (SAGITTAL, "sagittal"), ((1, 0, 0, 0, 0, -1), "coronal")]
)
def test_slices_of_the_acquired_plane_are_shown_as_the_files_are_stored(
    orientation: Sequence[float], axis: str
) -> None:
    files = series(orientation=orientation)
    volume = read_dicom_volume(files)
    stored = {pixels.tobytes() for pixels in STORED.astype(np.float32)}
    for index in range(6):
        image, _ = slice_image(volume, index, axis=axis, intensity="minmax")
        low, high = STORED.min(), STORED.max()
        assert np.rint(image[0] * (high - low) + low).astype(np.float32).tobytes() in stored


def test_each_slice_is_rescaled_by_its_own_slope_in_floating_point() -> None:
    files = [
        dicom(pixels, (0, 0, 3 * k), RescaleSlope=1.5 + 20 * k, RescaleIntercept=-k, RescaleType="US")
        for k, pixels in enumerate(STORED)
    ]
    expected = np.stack([pixels * (1.5 + 20 * k) - k for k, pixels in enumerate(STORED)])
    np.testing.assert_allclose(read_dicom_volume(files).values, expected.transpose(2, 1, 0), rtol=1e-6)


def test_padding_becomes_nan_and_does_not_count_in_the_range() -> None:
    pixels = STORED.copy()
    pixels[:, 0, 0] = -2000
    files = [dicom(plane, (0, 0, 3 * k), PixelPaddingValue=-2000) for k, plane in enumerate(pixels)]
    volume = read_dicom_volume(files)
    assert np.isnan(volume.values[0, 0]).all()
    assert volume.flags == ("padding",)
    low, high, _ = volume.intensity_range("minmax")
    assert (low, high) == (np.nanmin(volume.values), np.nanmax(volume.values))
    assert (slice_image(volume, 2, intensity="minmax")[0][:, 0, 0] == 0).all()


@pytest.mark.parametrize(
    ("places", "flags"),
    [
        ((0, 3, 6, 9, 12, 15), ()),
        ((0, 3, 6, 12, 15, 18), ("gap", "variable_spacing")),
        ((0, 3, 6.2, 9, 12, 15), ("variable_spacing",)),
        ((0, 3, 6.001, 9, 12, 15), ()),
    ],
)
def test_irregular_distances_are_flagged_and_recorded(places: Sequence[float], flags: tuple[str, ...]) -> None:
    volume = read_dicom_volume(series(places))
    assert volume.flags == flags
    assert volume.record["slice_positions"] == pytest.approx(list(places))
    assert volume.values.shape[2] == 6


def test_a_tilted_gantry_is_flagged_and_in_the_affine() -> None:
    files = [dicom(pixels, (0, 0.5 * k, 3 * k)) for k, pixels in enumerate(STORED)]
    volume = read_dicom_volume(files)
    assert volume.flags[0] == "sheared"
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0.5, 3])


def test_a_file_that_is_there_twice_counts_once_and_is_flagged() -> None:
    files = series()
    volume = read_dicom_volume([*files, io.BytesIO(files[2].getvalue())])
    assert np.array_equal(volume.values, STORED.transpose(2, 1, 0))
    assert volume.flags == ("duplicate_positions",)


def test_different_pixels_at_one_position_are_refused() -> None:
    with refused("bad_dimensions", "one slice for each position.*split it by echo, phase or time"):
        read_dicom_volume([*series(), dicom(STORED[0] + 1, (-10, 20, 33))])


@pytest.mark.parametrize(
    ("odd_one", "message"),
    [
        (lambda: dicom(STORED[0], (0, 0, 99), SeriesInstanceUID="1.2.4"), "1 of 7 with another series"),
        (lambda: dicom(STORED[0], (0, 0, 99), SAGITTAL), "another orientation"),
        (lambda: dicom(STORED[0, :2], (0, 0, 99)), "another size"),
        (lambda: dicom(STORED[0], (0, 0, 99), PixelSpacing=[0.5, 0.5]), "another pixel spacing"),
    ],
)
def test_a_localizer_or_another_series_among_the_files_is_refused(odd_one: Any, message: str) -> None:
    with refused("bad_header", message) as caught:
        read_dicom_volume([*series(), odd_one()])
    assert "1.2.4" not in str(caught.value)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_files_without_a_place_are_refused(keyword: str) -> None:
    with refused("missing_tag", "one lacks them; read the files as single images"):
        read_dicom_volume([dicom(STORED[0], (0, 0, 0), **{keyword: None})])


def test_inverted_impossible_and_too_many_slices_are_refused() -> None:
    with pytest.raises(MedicalImageError, match="got MONOCHROME1"):
        read_dicom_volume([dicom(STORED[0], (0, 0, 0), PhotometricInterpretation="MONOCHROME1")])
    with pytest.raises(MedicalImageError, match="two perpendicular directions"):
        read_dicom_volume([dicom(STORED[0], (0, 0, 0), (1, 0, 0, 1, 0, 0))])
    with refused("too_large", "at most 100 voxels, got 6 slices of 4 x 5"):
        read_dicom_volume(series(), limits=Limits(values=100))
    with pytest.raises(ValueError, match="at least one DICOM file, got none"):
        read_dicom_volume([])


def test_a_single_slice_is_a_volume_with_its_thickness() -> None:
    volume = read_dicom_volume(series()[:1])
    assert volume.values.shape == (5, 4, 1)
    assert volume.spacing == pytest.approx((0.8, 0.5, 2.5))


def test_a_multi_frame_file_is_a_volume() -> None:
    def item(**tags: Any) -> pydicom.Dataset:
        dataset = pydicom.Dataset()
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        return dataset

    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3 * place])],
            PixelValueTransformationSequence=[item(RescaleSlope=k + 1, RescaleIntercept=-7, RescaleType="US")],
        )
        for k, place in enumerate((5, 3, 4, 0, 1, 2))
    ]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.8])],
    )
    file = dicom(
        STORED[0],
        (0, 0, 0),
        SOPClassUID=EnhancedMRImageStorage,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        NumberOfFrames=6,
        PixelData=STORED.astype("<i2").tobytes(),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    volume = read_dicom_volume([file])
    expected = [STORED[k].T * (k + 1.0) - 7 for k in (3, 4, 5, 1, 2, 0)]
    np.testing.assert_allclose(volume.values, np.stack(expected, axis=-1))
    assert volume.spacing == pytest.approx((0.8, 0.5, 3))


@pytest.mark.parametrize("folder", ["t1post", "hippocampus_crop"])
def test_a_real_series_equals_the_same_volume_written_as_nifti(folder: str, test_data: Path, tmp_path: Path) -> None:
    paths = sorted((test_data / "data/mr_series_dicom" / folder).glob("*.dcm"))
    assert len(paths) > 20
    datasets = [pydicom.dcmread(path) for path in paths]
    orientation = np.array(datasets[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    datasets.sort(key=lambda dataset: float(np.dot(dataset.ImagePositionPatient, normal)))
    first, last = (np.array(datasets[end].ImagePositionPatient, dtype=float) for end in (0, -1))
    row_mm, column_mm = (float(value) for value in datasets[0].PixelSpacing)
    lps = np.eye(4)
    lps[:3] = np.stack(
        [orientation[:3] * column_mm, orientation[3:] * row_mm, (last - first) / (len(paths) - 1), first], axis=1
    )
    values = np.stack([dataset.pixel_array.T for dataset in datasets], axis=-1).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([-1, -1, 1, 1]) @ lps), tmp_path / "volume.nii.gz")

    volume = read_dicom_volume(paths)
    assert np.array_equal(volume.values, read_nifti(tmp_path / "volume.nii.gz").values)
    for axis in ("axial", "coronal", "sagittal"):
        middle = volume.slice_count(axis) // 2
        image, record = slice_image(volume, middle, axis=axis)
        expected, nifti_record = read_nifti_slice(tmp_path / "volume.nii.gz", slice_index=middle, axis=axis)
        assert np.array_equal(image, expected)
        assert record["pixel_spacing"] == pytest.approx(nifti_record["pixel_spacing"], rel=1e-4)


def test_a_real_ct_slice_is_the_same_image_alone_and_in_a_volume(test_data: Path) -> None:
    path = min((test_data / "data/ct_contrast_dicom").rglob("*.dcm"))
    alone, _ = read_dicom(path)
    volume = read_dicom_volume([path])
    image, _ = slice_image(volume, intensity="ct")
    np.testing.assert_allclose(image, alone, atol=1e-6)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, (-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, 0, -1)])
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(
    ("places", "shift", "thicknesses"),
    [
        ((0, 3, 6, 9, 12, 15), 0, [3] * 6),
        ((0, 3, 6, 27, 30, 33), 0, [3] * 6),
        ((0, 1, 3, 6, 10, 15), 0, [1, 1.5, 2.5, 3.5, 4.5, 5]),
        ((15, 12, 9, 6, 3, 0), 0, [3] * 6),
        ((0, 3, 6, 9, 12, 15), 90, [3] * 6),  # far out of the line of the normal
    ],
)
def test_a_mask_has_the_volume_of_its_slices(
    orientation: Sequence[float], axis: Any, places: Sequence[float], shift: float, thicknesses: list[float]
) -> None:
    normal, sideways = np.cross(orientation[:3], orientation[3:]), np.array(orientation[:3])
    files = [dicom(STORED[k], place * normal + k * shift * sideways, orientation) for k, place in enumerate(places)]
    volume = read_dicom_volume(files)
    records = [slice_image(volume, index, axis=axis)[1] for index in range(volume.slice_count(axis))]
    marked = (volume.values > 900).astype(np.uint8)
    planes = np.stack([take_slice(marked, index, axis) for index in range(volume.slice_count(axis))], axis=-1)
    amounts = mask_amounts(planes, ["background", "organ"], voxel_mm3=voxel_volumes(records))
    pixels = [(plane > 900).sum() for plane in STORED]
    truth = sum(count * 0.5 * 0.8 * size for count, size in zip(pixels, thicknesses, strict=True)) / 1000
    assert amounts["ml_organ"] == pytest.approx(truth, abs=2e-6)
