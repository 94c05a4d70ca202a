"""Volumes in LPS orientation: choice and display of their slices, and predictions put back on the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import nibabel as nib
import numpy as np

from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.pixels import grey_to_rgb, scale_values
from movl_monai.readers.windows import (
    Intensity,
    Window,
    check_intensity,
    intensity_range,
    resolve_windows,
    window_linear,
)

__all__ = [
    "SliceAxis",
    "Volume",
    "axis_index",
    "canonical_volume",
    "choose_frame",
    "choose_slices",
    "slice_image",
    "slices_to_volume",
    "take_slice",
]

SliceAxis = Literal["axial", "coronal", "sagittal"]
_BLACK_HU = -(2.0**15)
_AXES: dict[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
# DICOM's patient coordinates grow to the left and to the back, NIfTI's to the right and to the front
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def choose_frame(frame: int | None, count: int, name: str) -> int:
    """Return the index of the frame to read; a file with several frames needs a choice.

    Args:
        frame: requested index, or None.
        count: number of frames of the file, > 0.
        name: word for a frame in the message: "page", "slice".

    Raises:
        MedicalImageError: ``multi_frame`` for several frames and no choice, ``bad_frame`` for a frame that does not
            exist.

    Example:
        >>> choose_frame(None, 1, "slice"), choose_frame(3, 20, "slice")
        (0, 3)
    """
    if frame is None:
        if count == 1:
            return 0
        raise MedicalImageError(
            f"Expected a file with one {name}, or the choice of one, got {count} {name}s; give frame=0 to"
            f" frame={count - 1}, or make one item for each {name}.",
            reason="multi_frame",
        )
    if not 0 <= frame < count:
        raise MedicalImageError(
            f"Expected a frame from 0 to {count - 1} for a file with {count} {name}(s), got {frame}.",
            reason="bad_frame",
        )
    return int(frame)


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Scalar volume whose axes run to the patient's left, back and head (LPS), as nearly as its voxels allow.

    Args:
        values: float32 (X, Y, Z), possibly with NaN or infinite values; HU for CT.
        affine: (4, 4), from voxel indices to DICOM patient coordinates in mm.
        source_shape: shape of the stored array.
        source_orientation: nibabel's orientation array from LPS back to the stored axes.
        record: technical facts about the source.
        flags: peculiarities: ``oblique``, ``orientation_unknown``, ``non_finite``, ``sheared``, gaps of a series.
        voxel_mm3: volume of each voxel, of a shape that broadcasts to ``values``; None if all are |det(affine)|. NaN
            for an unknown volume.
        offsets: (slices, 3), in LPS order along the axis of the stored slices: offset in mm of each slice from its
            position by the affine; None for no offsets.
    """

    values: np.ndarray
    affine: np.ndarray
    source_shape: tuple[int, ...]
    source_orientation: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    voxel_mm3: np.ndarray | None = None
    offsets: np.ndarray | None = None
    _ranges: dict[tuple[object, ...], tuple[float, float, tuple[str, ...]]] = field(default_factory=dict, repr=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of the voxel centers along the three axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def slice_mm3(self, index: int, axis: SliceAxis = "axial") -> float | list[list[float]]:
        """Return the voxel volume of a slice in mm3: a number, or a list that broadcasts to its pixels."""
        if self.voxel_mm3 is None:
            return float(abs(np.linalg.det(self.affine[:3, :3])))
        along = min(index, self.voxel_mm3.shape[axis_index(axis)] - 1)
        plane = take_slice(self.voxel_mm3, along, axis)
        return float(plane[0, 0]) if plane.size == 1 else plane.tolist()

    def slice_count(self, axis: SliceAxis = "axial") -> int:
        """Return the number of slices along an axis."""
        return int(self.values.shape[axis_index(axis)])

    def intensity_range(
        self, intensity: Intensity, percentiles: Sequence[float] = (0.5, 99.5)
    ) -> tuple[float, float, tuple[str, ...]]:
        """Return :func:`intensity_range` of this volume, computed once."""
        key = (intensity, *percentiles)
        if key not in self._ranges:
            self._ranges[key] = intensity_range(self.values, intensity, percentiles)
        return self._ranges[key]


def canonical_volume(
    values: np.ndarray,
    affine_ras: np.ndarray,
    *,
    record: dict[str, Any],
    flags: Sequence[str] = (),
    voxel_mm3: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
) -> Volume:
    """Flip and transpose a stored array to LPS; no voxel is interpolated.

    Args:
        values: (I, J, K) as stored.
        affine_ras: (4, 4), invertible, from stored indices to NIfTI's coordinates (right, front, head) in mm.
        record: technical facts, kept.
        flags: flags so far; ``oblique`` is added beyond 0.1 rad, ``sheared`` for axes that are not perpendicular
            within a degree, ``non_finite`` for NaN or infinite values.
        voxel_mm3: voxel volume of each stored slice, (K,); None for |det(affine)|.
        offsets: see :class:`Volume`, in the stored order.

    Example:
        >>> volume = canonical_volume(np.arange(8.0).reshape(2, 2, 2), np.eye(4), record={})
        >>> volume.values[:, 0, 0]  # right to left, from the back to the front
        array([6., 2.], dtype=float32)
    """
    to_lps = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine_ras), nib.orientations.axcodes2ornt("LPS")
    )
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LPS"), nib.orientations.io_orientation(affine_ras)
    )
    affine = _RAS_TO_LPS @ affine_ras @ nib.orientations.inv_ornt_aff(to_lps, values.shape)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are flagged
        canonical = np.ascontiguousarray(nib.orientations.apply_orientation(values, to_lps), dtype=np.float32)
    found = list(flags)
    if nib.affines.obliquity(affine_ras).max() > 0.1:
        found.append("oblique")
    if "sheared" not in found and _is_sheared(affine_ras):
        found.append("sheared")
    if not np.isfinite(canonical).all():
        found.append("non_finite")
    volumes = None if voxel_mm3 is None else nib.orientations.apply_orientation(voxel_mm3.reshape(1, 1, -1), to_lps)
    if offsets is not None and to_lps[2, 1] < 0:
        offsets = offsets[::-1]
    return Volume(
        values=canonical,
        affine=affine,
        source_shape=tuple(values.shape),
        source_orientation=back,
        record=record,
        flags=tuple(found),
        voxel_mm3=volumes,
        offsets=offsets,
    )


def _is_sheared(affine: np.ndarray) -> bool:
    """Return True for axes that are not perpendicular within a degree."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() > np.sin(np.radians(1)))


def axis_index(axis: SliceAxis) -> int:
    """Return the axis of an LPS volume along which the slices of a plane are counted.

    Raises:
        ValueError: if the plane is unknown.

    Example:
        >>> axis_index("axial")
        2
    """
    if axis not in _AXES:
        raise ValueError(f"axis must be one of {', '.join(get_args(SliceAxis))}, got {axis!r}.")
    return _AXES[axis]


def take_slice(values: np.ndarray, index: int, axis: SliceAxis = "axial") -> np.ndarray:
    """Return a slice of an LPS volume as it is displayed, a view of the volume.

    Axial: front up, the patient's right on the left. Coronal: head up, right on the left. Sagittal: head up, front on
    the left. DICOM files of these planes are stored the same way.

    Args:
        values: (X, Y, Z), LPS.
        index: counted from the feet (axial), the front (coronal) or the right (sagittal).
        axis: the plane.

    Returns:
        (rows, columns).

    Example:
        >>> take_slice(np.zeros((4, 5, 6)), 0, "coronal").shape
        (6, 4)
    """
    plane = np.moveaxis(values, axis_index(axis), 0)[index]
    return plane.T if axis == "axial" else plane.T[::-1]


def slice_image(
    volume: Volume,
    index: int | None = None,
    *,
    axis: SliceAxis = "axial",
    intensity: Intensity = "percentile",
    ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
    percentiles: Sequence[float] = (0.5, 99.5),
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return one slice of a volume as an image, on the scale of the whole volume.

    Args:
        volume: the volume; its range is computed at the first slice and kept.
        index: of the slice, see :func:`take_slice`; optional for a volume of one slice.
        axis: the plane.
        intensity: ``"percentile"`` or ``"minmax"`` of the volume, or ``"ct"`` windows of values in HU.
        ct_windows: one window (repeated) or three.
        percentiles: (lower, upper) in percent.

    Returns:
        float32 (3, rows, columns) in [0, 1] and the record; NaN is black, infinite values are black or white.

    Raises:
        MedicalImageError: ``multi_frame``, ``bad_frame``, ``not_finite``, ``bad_window``.
        ValueError: for an unknown option.
    """
    check_intensity(intensity, percentiles)
    count = volume.slice_count(axis)
    chosen = choose_frame(index, count, f"{axis} slice")
    plane = np.ascontiguousarray(take_slice(volume.values, chosen, axis))
    columns_mm, rows_mm = (volume.spacing[k] for k in range(3) if k != axis_index(axis))
    record = volume.record | {
        "rows": plane.shape[0],
        "columns": plane.shape[1],
        "frames": count,
        "frame": chosen,
        "slice_axis": axis,
        "pixel_spacing": [rows_mm, columns_mm],
        "slice_spacing": volume.spacing[axis_index(axis)],
        "voxel_mm3": volume.slice_mm3(chosen, axis),
        "intensity": intensity,
        "flags": list(volume.flags),
    }
    if intensity == "ct":
        windows = resolve_windows(ct_windows)
        record["windows"] = [list(window) for window in windows]
        hu = np.nan_to_num(plane, nan=_BLACK_HU, posinf=-_BLACK_HU, neginf=_BLACK_HU)
        return np.stack([window_linear(hu, center=level, width=width) for width, level in windows]), record
    low, high, flags = volume.intensity_range(intensity, percentiles)
    record["range"] = [low, high]
    record["flags"] += flags
    finite = np.nan_to_num(plane, nan=low, posinf=high, neginf=low)
    return grey_to_rgb(scale_values(finite, low, high)), record


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
