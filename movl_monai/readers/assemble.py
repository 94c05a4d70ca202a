"""Choose slices of a volume, and put their predictions back into a volume that lies on the source."""

from __future__ import annotations

from collections.abc import Mapping

import nibabel as nib
import numpy as np

from movl_monai.readers.slices import SliceAxis, Volume, take_slice

__all__ = ["choose_slices", "slices_to_volume"]

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def choose_slices(
    volume: Volume,
    *,
    axis: SliceAxis = "axial",
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    mask: np.ndarray | None = None,
    min_pixels: int = 1,
) -> list[int]:
    """Return the indices of the slices to use.

    Args:
        volume: the volume.
        axis: the plane.
        every: take every n-th slice of the range.
        start: first slice, from 0.
        stop: end of the range, exclusive; None for all.
        mask: (X, Y, Z) as ``volume.values``; restricts the result to slices with at least ``min_pixels`` non-zero mask
            pixels.
        min_pixels: smallest number of non-zero mask pixels of a slice.

    Raises:
        ValueError: if the range is empty or beyond the volume, ``every`` < 1, or the mask has another shape.

    Example:
        >>> from movl_monai.readers.slices import canonical_volume
        >>> choose_slices(canonical_volume(np.zeros((4, 5, 9)), np.eye(4), record={}), every=3, start=1)
        [1, 4, 7]
    """
    count = volume.slice_count(axis)
    end = count if stop is None else stop
    if every < 1 or not 0 <= start < end <= count:
        raise ValueError(
            f"slices must be chosen by every >= 1 and 0 <= start < stop <= {count}, got every={every}, start={start},"
            f" stop={stop}."
        )
    chosen = list(range(start, end, every))
    if mask is None:
        return chosen
    if mask.shape != volume.values.shape:
        raise ValueError(
            f"mask must have the shape of the volume in LPS, {volume.values.shape}, got {mask.shape};"
            " read it with read_nifti."
        )
    return [index for index in chosen if np.count_nonzero(take_slice(mask, index, axis)) >= min_pixels]


def slices_to_volume(
    slices: Mapping[int, np.ndarray], volume: Volume, *, axis: SliceAxis = "axial", fill: float = 0
) -> nib.Nifti1Image:
    """Put the predictions of slices back into a volume that lies on its source, voxel by voxel.

    Args:
        slices: slice index -> (rows, columns), as displayed, at the resolution of the volume; all of one dtype.
        volume: source of the slices.
        axis: the plane they were taken along.
        fill: value of missing slices.

    Returns:
        A NIfTI image with the source's shape and affine: for NIfTI the stored ones, for a DICOM series (columns, rows,
        slices) in the patient's coordinates. The dtype is that of the predictions, or the nearest that every reader
        knows: uint8 for bool, int32 for int64, uint32 for uint64, float32 for other floats.

    Raises:
        ValueError: if there are no slices, or one has another shape or dtype, or an index beyond the volume.

    Example:
        >>> from movl_monai.readers.slices import canonical_volume
        >>> volume = canonical_volume(np.zeros((4, 5, 2)), np.eye(4), record={})
        >>> mask = np.zeros((5, 4), dtype=np.uint8)
        >>> mask[0, 0] = 1  # in front, on the patient's right
        >>> np.argwhere(slices_to_volume({1: mask}, volume).dataobj)
        array([[3, 4, 1]])
    """
    if not slices:
        raise ValueError("slices must hold at least one prediction, got none.")
    first = next(iter(slices.values()))
    canonical = np.full(volume.values.shape, fill, dtype=_storable(first.dtype))
    for index, plane in slices.items():
        if not 0 <= index < volume.slice_count(axis):
            raise ValueError(f"slice indices must be from 0 to {volume.slice_count(axis) - 1}, got {index}.")
        target = take_slice(canonical, index, axis)
        if plane.shape != target.shape or plane.dtype != first.dtype:
            raise ValueError(
                f"slice {index} must be {first.dtype} {target.shape}, as displayed at the resolution of the volume, got"
                f" {plane.dtype} {plane.shape}; resize predictions back first."
            )
        target[...] = plane
    stored = nib.orientations.apply_orientation(canonical, volume.source_orientation)
    back = nib.orientations.inv_ornt_aff(volume.source_orientation, canonical.shape)
    affine = _RAS_FROM_LPS @ volume.affine @ back
    image = nib.Nifti1Image(stored.reshape(volume.source_shape), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    # some readers prefer the qform, which cannot hold the shear of a tilted gantry
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-4):
        image.set_qform(affine, code="scanner")
    return image


def _storable(dtype: np.dtype) -> np.dtype:
    """Return the nearest dtype that every NIfTI reader knows."""
    replaced = {"bool": np.uint8, "int64": np.int32, "uint64": np.uint32, "float64": np.float32, "float16": np.float32}
    return np.dtype(replaced.get(dtype.name, dtype))
