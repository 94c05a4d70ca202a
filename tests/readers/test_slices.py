"""Slices as views in display order, and one intensity range for a volume."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from movl_monai.readers import slices as module
from movl_monai.readers.slices import SliceAxis, canonical_volume, choose_frame, slice_image, take_slice
from movl_monai.readers.windows import intensity_range
from tests.readers.refusals import refused

LPS = np.diag([-2.0, -3.0, 4.0, 1.0])  # RAS coordinates of voxels that are stored in LPS
VALUES = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_take_slice_is_a_writable_view(axis: SliceAxis) -> None:
    values = VALUES.copy()
    take_slice(values, 1, axis)[...] = 9
    assert (values == 9).sum() == values.size // values.shape[module.axis_index(axis)]


def test_an_lps_array_is_kept_and_its_affine_is_dicoms() -> None:
    volume = canonical_volume(VALUES, LPS, record={})
    assert np.array_equal(volume.values, VALUES)
    np.testing.assert_allclose(volume.affine, np.diag([2, 3, 4, 1]))
    assert volume.spacing == (2, 3, 4)
    assert [volume.slice_count(axis) for axis in ("sagittal", "coronal", "axial")] == [3, 4, 5]


def test_the_voxel_under_a_point_of_the_patient_is_the_same_after_reorientation() -> None:
    affine = np.array([[0, 0.1, 2, -9], [-1.5, 0, 0.1, 8], [0, 3, 0, 7], [0, 0, 0, 1]])
    volume = canonical_volume(VALUES, affine, record={})
    for index in np.ndindex(VALUES.shape):
        lps = np.diag([-1, -1, 1, 1]) @ affine @ [*index, 1]
        found = np.rint(np.linalg.solve(volume.affine, lps))[:3].astype(int)
        assert volume.values[tuple(found)] == VALUES[index]


def test_values_beyond_float32_are_flagged_and_not_warned_about() -> None:
    volume = canonical_volume(np.full((2, 2, 2), 1e300), LPS, record={}, flags=["first"])
    assert volume.flags == ("first", "non_finite")


def test_the_range_of_a_volume_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "intensity_range", lambda *args: calls.append(args) or intensity_range(*args))
    volume = canonical_volume(VALUES, LPS, record={})
    for index in range(5):
        slice_image(volume, index)
    assert len(calls) == 1
    slice_image(volume, 0, percentiles=(1, 99))
    assert len(calls) == 2


def test_slice_images_are_own_contiguous_float32_images() -> None:
    volume = canonical_volume(VALUES, LPS, record={"format": "test"})
    for axis in ("axial", "coronal", "sagittal"):
        for intensity in ("percentile", "minmax", "ct"):
            image, record = slice_image(volume, 0, axis=axis, intensity=intensity)
            assert image.dtype == np.float32
            assert image.flags.c_contiguous
            assert not np.shares_memory(image, volume.values)
            assert 0 <= image.min() <= image.max() <= 1
            assert record["format"] == "test"
    assert "rows" not in volume.record


def test_orientation_is_that_of_nibabel() -> None:
    affine = np.array([[0, 0, 2.0, 0], [1.5, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1]])
    expected = nib.as_closest_canonical(nib.Nifti1Image(VALUES, affine)).get_fdata()[::-1, ::-1]
    assert np.array_equal(canonical_volume(VALUES, affine, record={}).values, expected.astype(np.float32))


def test_one_frame_needs_no_choice_and_a_choice_is_kept() -> None:
    assert choose_frame(None, 1, "page") == 0
    assert [choose_frame(index, 3, "page") for index in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(("frame", "reason"), [(None, "multi_frame"), (3, "bad_frame"), (-1, "bad_frame")])
def test_no_choice_and_a_choice_that_does_not_exist_are_refused(frame: int | None, reason: str) -> None:
    with refused(reason, "3 page|0 to 2"):
        choose_frame(frame, 3, "page")
