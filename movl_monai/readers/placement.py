"""Placement of the pixels of a plane on the voxels of another grid: exact, or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from movl_monai.readers.dicom.geometry import Geometry

__all__ = ["Placement", "place_plane", "plane_affine"]

_TOLERANCE = 0.1  # of a voxel: positions are written with few digits


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Placement of a plane on a grid, with all of its pixels on voxel centers in two directions.

    Args:
        axes: grid axis along the columns of the plane, then grid axis along its rows.
        signs: 1 for the direction of the grid axis, -1 for the opposite direction.
        start: (3,) voxel of the plane's first pixel; integers along ``axes``.
        depth: axis of the grid that crosses the plane.
    """

    axes: tuple[int, int]
    signs: tuple[int, int]
    start: np.ndarray
    depth: int

    @property
    def layer(self) -> float:
        """Index of the plane along ``depth``; an integer for a plane of voxels."""
        return float(self.start[self.depth])

    @property
    def is_on_layer(self) -> bool:
        """True if the plane is one of the grid's planes, inside or outside of the grid."""
        return abs(self.layer - round(self.layer)) <= _TOLERANCE

    def region(self, shape: tuple[int, int], grid_shape: tuple[int, int, int]) -> tuple[slice, slice] | None:
        """Return the ascending voxel ranges along ``axes`` of a plane of (columns, rows); None beyond the grid."""
        slices = []
        for axis, sign, size in zip(self.axes, self.signs, shape, strict=True):
            first = round(float(self.start[axis]))
            low = first if sign > 0 else first - size + 1
            if low < 0 or low + size > grid_shape[axis]:
                return None
            slices.append(slice(low, low + size))
        return slices[0], slices[1]

    def paint(
        self, canvas: np.ndarray, plane: np.ndarray, region: tuple[slice, slice]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a view of the part of the canvas under a plane, and the plane turned to lie on it.

        Args:
            canvas: an array of the grid's shape.
            plane: (rows, columns).
            region: from :meth:`region`.
        """
        index: list[slice | int] = [0, 0, 0]
        index[self.axes[0]], index[self.axes[1]], index[self.depth] = *region, round(self.layer)
        turned = plane.T[:: self.signs[0], :: self.signs[1]]
        return canvas[tuple(index)], turned if self.axes[0] < self.axes[1] else turned.T


def plane_affine(geometry: Geometry, *, thickness: float = 1.0) -> np.ndarray | None:
    """Return the affine (4, 4) from (column, row, slice) to patient coordinates in mm; None for an unknown place.

    Args:
        geometry: of a frame.
        thickness: distance of the slices in mm.

    Reference:
        DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    if geometry.position is None or geometry.orientation is None or geometry.spacing is None:
        return None
    along_row, along_column = np.array(geometry.orientation[:3]), np.array(geometry.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = along_row * geometry.spacing[1]
    affine[:3, 1] = along_column * geometry.spacing[0]
    affine[:3, 2] = np.cross(along_row, along_column) * thickness
    affine[:3, 3] = geometry.position
    return affine if abs(np.linalg.det(affine[:3, :3])) > 0 else None


def place_plane(plane: np.ndarray, shape: tuple[int, int], grid: np.ndarray) -> Placement | None:
    """Return the placement of a plane on a grid; None if its pixels are not centered on lines of voxels.

    Args:
        plane: affine (4, 4) of the plane, from (column, row, slice) to mm.
        shape: columns and rows of the plane.
        grid: affine (4, 4) of the grid, from voxels to mm.

    Example:
        >>> turned = np.diag([-1.0, 1, 1, 1])
        >>> turned[:3, 3] = 9, 5, 2
        >>> found = place_plane(turned, (4, 3), np.eye(4))
        >>> found.axes, found.signs, found.layer, found.region((4, 3), (10, 10, 5))
        ((0, 1), (-1, 1), 2.0, (slice(6, 10, None), slice(5, 8, None)))
    """
    steps = np.linalg.inv(grid) @ plane
    directions, start = steps[:3, :2].T, steps[:3, 3]
    whole = np.rint(directions)
    if (np.abs(whole).sum(axis=1) != 1).any() or (whole[0] == whole[1]).all() or whole[0] @ whole[1] != 0:
        return None
    # far from the first pixel a small error of spacing or direction is a large error of position
    drift = np.abs(directions - whole) * (np.array(shape)[:, None] - 1)
    axes = int(np.abs(whole[0]).argmax()), int(np.abs(whole[1]).argmax())
    offsets = np.abs(start - np.rint(start))[list(axes)]
    if drift.sum(axis=0).max() > _TOLERANCE or offsets.max() > _TOLERANCE:
        return None
    signs = int(whole[0].sum()), int(whole[1].sum())
    return Placement(axes=axes, signs=signs, start=start, depth=3 - sum(axes))
