"""DICOM segmentations as masks that lie on an image or on a volume, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from movl_monai.readers.dicom.codes import transfer_syntax_name
from movl_monai.readers.dicom.geometry import Geometry
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.segmentation import OpenSegmentation, open_segmentation
from movl_monai.readers.dicom.tags import code_string, functional_group, number
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source
from movl_monai.readers.mask_target import (
    ImagePlane,
    MaskCanvas,
    check_threshold,
    chosen_segments,
    frames_of_image,
    read_image_plane,
)
from movl_monai.readers.placement import Placement, place_plane, plane_affine
from movl_monai.readers.series import SAME_PLACE_MM
from movl_monai.readers.slices import Volume, canonical_volume

__all__ = ["read_segmentation", "read_segmentation_volume"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@quiet()
def read_segmentation(
    source: Source,
    image: Source | None = None,
    *,
    image_frame: int | None = None,
    segments: Sequence[int | str] | None = None,
    as_channels: bool = False,
    threshold: float | None = 0.5,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read the mask of one image from a DICOM segmentation.

    Frames belong to the image if their pixels lie on its pixels in the patient; they are turned or flipped if the two
    are stored in different orientations. If either has no place in the patient, frames belong to the image that they
    refer to. In a series over time several images share a place: if some frames there refer to this image, frames that
    refer only to the others are left out.

    Args:
        source: the segmentation: BINARY, FRACTIONAL or LABELMAP.
        image: the DICOM image of the mask; optional if all frames lie in one plane.
        image_frame: frame of the image, from 0; optional for an image with one frame.
        segments: numbers or SegmentLabels of the segments to read, in this order; None for all.
        as_channels: one channel for each segment, instead of one map of segment numbers.
        threshold: FRACTIONAL values of at least this (in [0, 1]) belong to the segment; None returns the values
            themselves, as channels.
        limits: upper limits on the sizes that a file may declare.

    Returns:
        The mask and a record. The mask is (1, H, W) of segment numbers with 0 for background, uint8, or int32 for
        numbers above 255; as channels (segments, H, W) of 0 and 1, uint8, or without threshold float32 in [0, 1]. The
        record has ``format``, ``segmentation_type``, ``fractional_type``, ``segments``, ``rows``, ``columns``,
        ``frames`` (number of frames used), ``matched_by`` (``"geometry"``, ``"reference"`` or ``"single_plane"``),
        ``threshold``, ``transfer_syntax``, ``decoder``, ``flags``. If the image lies in the space of the segmentation
        but no frame in its plane, the mask is empty and flagged ``no_segment_in_plane``.

    Raises:
        MedicalImageError: ``not_segmentation``, ``unknown_segment``, ``overlapping_segments``; ``mask_mismatch`` if
            mask and image cannot be matched; ``multi_frame`` for several planes without an image; and the errors of
            reading a DICOM file.
        ValueError: for a threshold beyond (0, 1], or None without channels.

    Reference:
        DICOM PS3.3 C.8.20.2 and C.7.6.16.2.
    """
    check_threshold(threshold, as_channels=as_channels)
    target = None if image is None else read_image_plane(image, frame=image_frame, limits=limits)
    with open_segmentation(source, limits=limits) as opened:
        chosen = chosen_segments(opened, segments)
        found = _single_plane(opened) if target is None else frames_of_image(opened, target)
        canvas = MaskCanvas(opened, chosen, found.shape, as_channels=as_channels, threshold=threshold)
        used = 0
        for frame, placement in found.frames:
            if frame.segment is None or frame.segment in chosen:
                canvas.paint(frame, placement)
                used += 1
        record = _record(opened, chosen, threshold) | {
            "rows": found.shape[1],
            "columns": found.shape[0],
            "frames": used,
            "matched_by": found.matched_by,
        }
    mask = canvas.values[..., 0]
    return np.ascontiguousarray(mask.transpose(0, 2, 1)), record


@quiet()
def read_segmentation_volume(
    source: Source,
    like: Volume | None = None,
    *,
    segments: Sequence[int | str] | None = None,
    threshold: float = 0.5,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Volume:
    """Read a DICOM segmentation as a volume of segment numbers in LPS orientation.

    Args:
        source: the segmentation.
        like: the volume of the mask, from :func:`read_dicom_volume` of the source series or :func:`read_nifti`; the
            mask gets its shape and affine. None for a volume that spans the frames, with empty slices for planes
            without a frame.
        segments: numbers or SegmentLabels of the segments to read; None for all. Overlapping segments must be read one
            by one.
        threshold: FRACTIONAL values of at least this (in [0, 1]) belong to the segment.
        limits: upper limits on the sizes that the file may declare; ``values`` also limits the volume.

    Returns:
        The volume; 0 is background. ``flags``: the flags of the file, and ``frames_outside_volume``.

    Raises:
        MedicalImageError: as :func:`read_segmentation`; ``missing_tag`` for frames without a place; ``mask_mismatch``
            if frames do not lie on the voxels of ``like``, or all lie outside of it.
        ValueError: for a threshold beyond (0, 1].

    Reference:
        DICOM PS3.3 C.8.20.2 and C.7.6.16.2.
    """
    check_threshold(threshold, as_channels=False)
    with open_segmentation(source, limits=limits) as opened:
        chosen = chosen_segments(opened, segments)
        grid, shape = _own_grid(opened) if like is None else (like.affine, _shape(like.values))
        if np.prod(shape, dtype=object) > limits.values:
            raise MedicalImageError(
                f"Expected at most {limits.values:,} voxels, the segmentation spans {' x '.join(map(str, shape))};"
                " raise the limits if it is real.",
                reason="too_large",
            )
        canvas = MaskCanvas(opened, chosen, shape, as_channels=False, threshold=threshold)
        _paint_volume(opened, chosen, canvas, grid, shape, None if like is None else like.offsets)
        record = _record(opened, chosen, threshold)
    values, flags = canvas.values[0], record.pop("flags")
    if like is None:
        return canonical_volume(values, _LPS_TO_RAS @ grid, record=record, flags=flags)
    return replace(like, values=values.astype(np.float32), record=record, flags=tuple(flags), _ranges={})


def _paint_volume(
    opened: OpenSegmentation,
    chosen: Sequence[int],
    canvas: MaskCanvas,
    grid: np.ndarray,
    shape: tuple[int, int, int],
    offsets: np.ndarray | None,
) -> None:
    size = (opened.layout.columns, opened.layout.rows)
    wanted = [frame for frame in opened.frames if frame.segment is None or frame.segment in chosen]
    outside = 0
    for frame in wanted:
        plane = _placed(frame.geometry)
        placement = place_plane(plane, size, _grid_at(plane, grid, shape, offsets))
        if placement is None or not placement.is_on_layer:
            raise MedicalImageError(
                f"Expected frames on the voxels of the volume, frame {frame.index} lies between them; read the"
                " segmentation without a volume, or give the series that it was made on.",
                reason="mask_mismatch",
            )
        inside = 0 <= round(placement.layer) < shape[placement.depth] and placement.region(size, shape) is not None
        if inside:
            canvas.paint(frame, placement)
        outside += not inside
    if outside:
        opened.flags.add("frames_outside_volume")
    if wanted and outside == len(wanted):
        raise MedicalImageError(
            f"Expected frames within the volume, all {outside} lie outside; give the series that the segmentation was"
            " made on.",
            reason="mask_mismatch",
        )


def _grid_at(
    plane: np.ndarray, grid: np.ndarray, shape: tuple[int, int, int], offsets: np.ndarray | None
) -> np.ndarray:
    """Return the grid, moved so that the slice nearest to a plane lies at the position that its file states."""
    if offsets is None:
        return grid
    normal = plane[:3, 2] / np.linalg.norm(plane[:3, 2])
    depth = int(np.abs(normal @ grid[:3, :3] / np.linalg.norm(grid[:3, :3], axis=0)).argmax())
    places = np.arange(len(offsets))[:, None] * grid[:3, depth] + offsets
    if len(offsets) != shape[depth]:
        return grid
    moved = grid.copy()
    moved[:3, 3] += offsets[np.abs((places + grid[:3, 3] - plane[:3, 3]) @ normal).argmin()]
    return moved


def _own_grid(opened: OpenSegmentation) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the affine and the shape of the smallest grid whose planes hold all frames."""
    first = _placed(opened.frames[0].geometry)
    normal = first[:3, 2] / np.linalg.norm(first[:3, 2])
    positions = np.array([_placed(frame.geometry)[:3, 3] for frame in opened.frames])
    places = positions @ normal
    order = places.argsort()
    gaps = np.diff(places[order])
    layers = _layers(gaps[gaps > SAME_PLACE_MM], _stated_distance(opened, "SpacingBetweenSlices"))
    affine = first.copy()
    affine[:3, 3] = positions[order[0]]
    if layers > 1:
        affine[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (layers - 1)
    else:
        affine[:3, 2] = normal * (_stated_distance(opened, "SpacingBetweenSlices", "SliceThickness") or 1.0)
    return affine, (opened.layout.columns, opened.layout.rows, layers)


def _layers(gaps: np.ndarray, spacing: float | None) -> int:
    """Return the number of planes: by the stated distance if the gaps are multiples of it, else by the smallest gap.

    Args:
        gaps: distances of the occupied planes in mm.
        spacing: the stated distance, None if there is none.
    """
    if not len(gaps):
        return 1
    counts = gaps / (spacing or gaps.min())
    fits = counts.min() > 0.5 and np.abs(counts - np.rint(counts)).max() < 0.1
    return round(float(counts.sum() if fits else gaps.sum() / gaps.min())) + 1


def _stated_distance(opened: OpenSegmentation, *keywords: str) -> float | None:
    """Return the first distance of slices in mm that the keywords state; None if none does."""
    measures = functional_group(opened.header, "PixelMeasuresSequence", 0)
    stated = [number(measures, keyword) for keyword in keywords] if measures is not None else []
    return next((value for value in stated if value is not None and value > 0), None)


def _placed(geometry: Geometry) -> np.ndarray:
    affine = plane_affine(geometry)
    if affine is None:
        raise MedicalImageError(
            "Expected a position, an orientation and a pixel spacing for every frame of the segmentation, one lacks"
            " them; read it image by image.",
            reason="missing_tag",
        )
    return affine


def _single_plane(opened: OpenSegmentation) -> ImagePlane:
    """Return all frames as one image if they lie in one plane."""
    layout = opened.layout
    places: set[object] = {(frame.geometry.position, frame.geometry.orientation) for frame in opened.frames}
    if places == {(None, None)}:
        places = {frame.sources for frame in opened.frames}
    # without place and reference, several frames of one segment cannot lie in one plane
    most = max(sum(other.segment == frame.segment for other in opened.frames) for frame in opened.frames)
    if len(places) > 1 or most > 1:
        raise MedicalImageError(
            f"The segmentation has {len(opened.frames)} frames in several planes; give the image that the mask is for,"
            " or read it as a volume.",
            reason="multi_frame",
        )
    placement = Placement(axes=(0, 1), signs=(1, 1), start=np.zeros(3), depth=2)
    return ImagePlane(
        shape=(layout.columns, layout.rows, 1),
        frames=tuple((frame, placement) for frame in opened.frames),
        matched_by="single_plane",
    )


def _record(opened: OpenSegmentation, chosen: Sequence[int], threshold: float | None) -> dict[str, Any]:
    is_fractional = opened.kind == "FRACTIONAL"
    fractional = code_string(opened.header, "SegmentationFractionalType") if is_fractional else ""
    return {
        "format": "dicom",
        "segmentation_type": opened.kind,
        "fractional_type": fractional if fractional in ("PROBABILITY", "OCCUPANCY") else "",
        "segments": list(chosen),
        "threshold": threshold if is_fractional else None,
        "transfer_syntax": transfer_syntax_name(opened.layout.transfer_syntax),
        "decoder": "+".join(sorted(opened.decoders)),
        "flags": opened.flags.codes,
    }


def _shape(values: np.ndarray) -> tuple[int, int, int]:
    x, y, z = values.shape
    return x, y, z
