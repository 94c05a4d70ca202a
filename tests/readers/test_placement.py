"""Planes on grids: every orientation by hand, and planes that do not lie on the grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from movl_monai.readers.dicom.geometry import Geometry
from movl_monai.readers.placement import place_plane, plane_affine

GRID = np.array([[0.6, -0.8, 0, 4], [0.8, 0.6, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]]) @ np.diag([0.5, 0.8, 3, 1])
SHAPE = (7, 8, 9)


def moved(rotation: np.ndarray, start: tuple[float, ...]) -> np.ndarray:
    """An affine of a plane from its directions and first pixel in voxels of the grid."""
    steps = np.eye(4)
    steps[:3, :3], steps[:3, 3] = rotation, start
    return GRID @ steps


@pytest.mark.parametrize("axes", list(permutations(range(3), 3)))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=2)))
def test_every_pixel_is_painted_on_the_voxel_at_its_place(axes: tuple[int, ...], signs: tuple[int, int]) -> None:
    rotation = np.zeros((3, 3))
    rotation[axes[0], 0], rotation[axes[1], 1], rotation[axes[2], 2] = *signs, 1
    start = (3, 4, 5)
    plane = np.arange(1.0, 10).reshape(3, 3)
    found = place_plane(moved(rotation, start), (3, 3), GRID)
    assert found is not None
    assert found.is_on_layer
    region = found.region((3, 3), SHAPE)
    assert region is not None
    canvas = np.zeros(SHAPE)
    target, turned = found.paint(canvas, plane, region)
    target[...] = turned
    for row, column in product(range(3), range(3)):
        voxel = np.rint(rotation @ [column, row, 0] + start).astype(int)
        assert canvas[tuple(voxel)] == plane[row, column]
    assert np.count_nonzero(canvas) == 9


def test_the_start_may_be_written_with_few_digits_and_no_less() -> None:
    assert place_plane(moved(np.eye(3), (1.05, 2, 3)), (3, 3), GRID) is not None
    assert place_plane(moved(np.eye(3), (1.3, 2, 3)), (3, 3), GRID) is None
    between = place_plane(moved(np.eye(3), (1, 2, 3.4)), (3, 3), GRID)
    assert between is not None
    assert not between.is_on_layer


def test_a_small_error_of_spacing_counts_over_the_whole_plane() -> None:
    stretched = np.diag([1.001, 1, 1])
    assert place_plane(moved(stretched, (0, 0, 0)), (50, 50), GRID) is not None
    assert place_plane(moved(stretched, (0, 0, 0)), (500, 50), GRID) is None
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    assert place_plane(moved(rotation, (0, 0, 0)), (3, 3), GRID) is None


@pytest.mark.parametrize(("start", "signs"), [((-1, 0, 0), (1, 1)), ((6, 0, 0), (1, 1)), ((1, 0, 0), (-1, 1))])
def test_a_plane_that_goes_beyond_the_grid_has_no_region(start: tuple, signs: tuple[int, int]) -> None:
    found = place_plane(moved(np.diag([*signs, 1]), start), (3, 3), GRID)
    assert found is not None
    assert found.region((3, 3), SHAPE) is None


def test_the_affine_of_a_frame_has_its_spacing_and_none_without_a_place() -> None:
    known = Geometry(spacing=(0.5, 0.75), position=(1, 2, 3), orientation=(0, 1, 0, 0, 0, -1))
    np.testing.assert_allclose(
        plane_affine(known, thickness=2), [[0, 0, -2, 1], [0.75, 0, 0, 2], [0, -0.5, 0, 3], [0, 0, 0, 1]]
    )
    for missing in ("spacing", "position", "orientation"):
        parts = {"spacing": (1.0, 1.0), "position": (0.0,) * 3, "orientation": (1.0, 0, 0, 0, 1, 0), missing: None}
        assert plane_affine(Geometry(**parts)) is None
    flat = Geometry(spacing=(1, 1), position=(0, 0, 0), orientation=(1, 0, 0, 1, 0, 0))
    assert plane_affine(flat) is None
