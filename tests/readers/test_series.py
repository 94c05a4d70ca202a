"""The geometry of a series, from headers alone; volumes are tested in test_volume.py."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from movl_monai.readers.dicom import Limits
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.series import (
    SeriesSlice,
    check_alike,
    group_alike,
    series_affine,
    slice_thicknesses,
    slices_of,
    spacing_flags,
)
from tests.readers.refusals import refused


def at(place: float, *, sideways: float = 0, thickness: float = 4) -> SeriesSlice:
    return SeriesSlice(
        source=io.BytesIO(),
        frame=0,
        shape=(4, 5),
        spacing=(0.5, 0.8),
        position=np.array([1, 2 + sideways, 3 + place]),
        orientation=np.array([1.0, 0, 0, 0, 1, 0]),
        series="1.2.3",
        modality="CT",
        thickness=thickness,
    )


def test_the_geometry_of_a_real_file_equals_its_tags() -> None:
    path = get_testdata_file("CT_small.dcm", download=False)
    dataset = dcmread(path)
    (part,) = slices_of(path, Limits())
    assert part.position.tolist() == dataset.ImagePositionPatient
    assert list(part.spacing) == dataset.PixelSpacing
    assert part.shape == (dataset.Rows, dataset.Columns)
    assert (part.thickness, part.modality) == (dataset.SliceThickness, "CT")
    np.testing.assert_allclose(part.normal, [0, 0, 1], atol=1e-6)


def test_the_affine_maps_pixels_as_the_standard_does() -> None:
    kept = [at(place, sideways=place / 10) for place in (0, 2, 4)]
    affine, places = series_affine(kept)
    column, row, index = 3, 2, 1
    # equation C.7.6.2.1-1 for the slice itself
    expected = kept[index].position + np.array([column * 0.8, row * 0.5, 0])
    np.testing.assert_allclose(affine @ [column, row, index, 1], [*expected, 1])
    assert places.tolist() == [0, 2, 4]
    assert spacing_flags(kept, places, affine) == ["sheared"]


def test_one_slice_has_its_thickness_and_no_flags() -> None:
    affine, places = series_affine([at(0, thickness=7)])
    assert affine[:3, 2].tolist() == [0, 0, 7]
    assert spacing_flags([at(0)], places, affine) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ImagePositionPatient": None}, "missing_tag"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "missing_tag"),
        ({"NumberOfFrames": 10_001}, "too_large"),
    ],
)
def test_a_file_without_a_place_or_with_too_many_frames_is_refused(change: dict, reason: str) -> None:
    dataset = dcmread(get_testdata_file("CT_small.dcm", download=False))
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file)
    with refused(reason, "one lacks them|at most 10000 frames, got 10001"):
        slices_of(file, Limits())


def test_slices_that_are_alike_pass_and_one_that_is_not_is_counted() -> None:
    check_alike([at(0), at(3)])
    with pytest.raises(MedicalImageError, match="got 1 of 3 with another size"):
        check_alike([at(0), at(3), replace(at(6), shape=(4, 4))])


def test_what_is_grouped_together_is_alike() -> None:
    # spacings on both sides of the reference, which is the slice of the smallest cosine
    spacings, cosines = [(0.7, 0.8), (0.7006, 0.8), (0.6994, 0.8)], [[1, 0, 0, 0, 1, 0], *[[1, 5e-4, 0, 0, 1, 0]] * 2]
    assert group_alike("aaa", cosines, spacings) == [[0, 1, 2]]
    pairs = zip(cosines, spacings, strict=True)
    check_alike([replace(at(0), orientation=np.array(turned), spacing=spacing) for turned, spacing in pairs])


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((0, 3, 6, 9), (3, 3, 3, 3)),
        ((0, 3, 6, 27, 30, 33), (3,) * 6),  # a lone gap
        ((0, 1, 2, 4, 7, 8, 9), (1,) * 7),  # three slices missing around one
        ((0, 2, 4, 20, 25, 30), (2, 2, 2, 5, 5, 5)),  # two blocks
        ((0, 1, 2, 3, 4, 9, 14, 19), (1, 1, 1, 1, 3, 5, 5, 5)),  # wider from there on
        ((0, 1, 3, 6, 10), (1, 1.5, 2.5, 3.5, 4)),
        ((0, 1, 2, 12), (1, 1, 1, 1)),
        ((0, 7), (7, 7)),
    ],
)
def test_each_slice_has_half_the_distances_to_its_neighbours(places: list[float], expected: list[float]) -> None:
    assert slice_thicknesses(np.array(places, dtype=float)).tolist() == list(expected)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]])
def test_values_at_a_boundary_of_rounding_are_one_group(order: list[int]) -> None:
    keys = ["a", "a", "a", "b", "a"]
    cosines = [
        [1, 0.004999, 0, 0, 1, 0],
        [1, 0.005001, 0, 0, 1, 0],
        *[[1, 0.0050, 0, 0, 1, 0]] * 2,
        [0, 1, 0, 0, 0, -1],
    ]
    spacings = [(0.704999, 0.7), (0.705001, 0.7), *[(0.705, 0.7)] * 3]
    groups = group_alike(*([values[index] for index in order] for values in (keys, cosines, spacings)))
    assert sorted(sorted(order[index] for index in group) for group in groups) == [[0, 1, 2], [3], [4]]


def test_slices_off_the_line_and_of_no_thickness_are_flagged() -> None:
    kept = [at(0), at(2, sideways=0.3), at(4)]
    affine, places = series_affine(kept)
    assert spacing_flags(kept, places, affine) == ["uneven_shift"]
    alone = [replace(at(0), thickness=None)]
    affine, places = series_affine(alone)
    assert spacing_flags(alone, places, affine) == ["unknown_thickness"]
