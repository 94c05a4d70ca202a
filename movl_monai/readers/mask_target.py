"""Match the frames of a segmentation to an image, and place them on its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from movl_monai.readers.dicom.geometry import read_geometry
from movl_monai.readers.dicom.header import read_header
from movl_monai.readers.dicom.layout import frame_count
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.segmentation import OpenSegmentation, SegmentFrame, referenced_images
from movl_monai.readers.dicom.tags import integer, uid
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source
from movl_monai.readers.placement import Placement, place_plane, plane_affine
from movl_monai.readers.series import SAME_PLACE_MM
from movl_monai.readers.slices import choose_frame

__all__ = [
    "ImagePlane",
    "ImageTarget",
    "MaskCanvas",
    "check_threshold",
    "chosen_segments",
    "frames_of_image",
    "read_image_plane",
]

_NEAR_MM = 0.1


def check_threshold(threshold: float | None, *, as_channels: bool) -> None:
    """Check that a threshold selects neither everything nor nothing, and that fractions are kept only in channels.

    Raises:
        ValueError: otherwise.
    """
    if threshold is None and not as_channels:
        raise ValueError("threshold=None keeps fractions, which a map of segment numbers cannot; set as_channels=True.")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}.")


def chosen_segments(opened: OpenSegmentation, segments: Sequence[int | str] | None) -> tuple[int, ...]:
    """Return the numbers of the segments chosen by number or by label.

    Raises:
        MedicalImageError: ``unknown_segment``.
    """
    if segments is None:
        return tuple(opened.labels)
    by_label = {label.casefold(): number for number, label in reversed(opened.labels.items())}
    chosen: list[int] = []
    for wanted in segments:
        found = by_label.get(wanted.strip().casefold()) if isinstance(wanted, str) else int(wanted)
        if found is None or found not in opened.labels:
            raise MedicalImageError(
                f"segments must be numbers ({', '.join(map(str, opened.labels))}) or labels of the segmentation, got"
                f" {wanted!r}, which it does not have.",
                reason="unknown_segment",
            )
        chosen.append(found)
    return tuple(chosen)


class MaskCanvas:
    """Mask that is painted frame by frame.

    Args:
        opened: the segmentation.
        segments: numbers of the segments.
        shape: (X, Y, Z) of the grid.
        as_channels: one channel per segment, instead of one map of segment numbers.
        threshold: FRACTIONAL values of at least this belong to the segment; None keeps the fractions.
    """

    def __init__(
        self,
        opened: OpenSegmentation,
        segments: Sequence[int],
        shape: tuple[int, int, int],
        *,
        as_channels: bool,
        threshold: float | None,
    ) -> None:
        self._opened = opened
        self._segments = tuple(segments)
        self._threshold = threshold
        self._as_channels = as_channels
        if as_channels:
            dtype: type = np.float32 if threshold is None else np.uint8
        else:
            dtype = np.uint8 if max(segments, default=0) < 2**8 else np.int32
        self.values: np.ndarray = np.zeros((len(segments) if as_channels else 1, *shape), dtype=dtype)
        self._size = (opened.layout.columns, opened.layout.rows)
        self._painted: dict[object, int] = {}
        self._numbers = {0, *opened.labels, integer(opened.header, "PixelPaddingValue")}

    def paint(self, frame: SegmentFrame, placement: Placement) -> None:
        """Decode a frame and put it in its place on the canvas.

        Raises:
            MedicalImageError: ``overlapping_segments`` in a map of segment numbers; ``mask_mismatch`` if the frame goes
                beyond the canvas or overlaps another frame of its segment; ``bad_header`` for a number of a label map
                without a segment; and the errors of decoding.
        """
        _, x, y, z = self.values.shape
        region = placement.region(self._size, (x, y, z))
        if region is None:
            raise MedicalImageError(
                f"Expected frames within the image, frame {frame.index} goes beyond it; give the image that the"
                " segmentation was made on.",
                reason="mask_mismatch",
            )
        place = (frame.segment, *np.rint(placement.start).tolist())
        if (first := self._painted.setdefault(place, frame.index)) != frame.index:
            raise MedicalImageError(
                f"Expected one frame of a segment for each place, frames {first} and {frame.index} lie on the same"
                " pixels. If the segmentation is of several times or phases, read it image by image; slices that share"
                " one SOPInstanceUID cannot be told apart: give each its own.",
                reason="mask_mismatch",
            )
        stored = self._opened.stored(frame.index)
        if frame.segment is None:
            self._check_numbers(stored)
        numbers = self._segments if frame.segment is None else [frame.segment]
        for number in numbers:
            fraction = self._fraction(stored, number if frame.segment is None else None)
            channel = self._segments.index(number) if self._as_channels else 0
            target, turned = placement.paint(self.values[channel], fraction, region)
            self._merge(target, turned, number)

    def _check_numbers(self, stored: np.ndarray) -> None:
        unknown = set(np.unique(stored).tolist()) - self._numbers
        if unknown:
            raise MedicalImageError(
                f"Expected segment numbers {', '.join(map(str, self._opened.labels))} or 0 in the label map, got"
                f" {min(unknown)}, which SegmentSequence does not describe; export the segmentation again.",
                reason="bad_header",
            )

    def _fraction(self, stored: np.ndarray, number: int | None) -> np.ndarray:
        """Return bool (H, W), or without threshold float32 in [0, 1]."""
        if number is not None:
            found = stored == number
        elif self._opened.kind == "FRACTIONAL":
            fraction = np.minimum(stored / np.float32(self._opened.largest), np.float32(1))
            return fraction if self._threshold is None else fraction >= self._threshold
        else:
            found = stored != 0
        return found.astype(np.float32) if self._threshold is None else found

    def _merge(self, target: np.ndarray, turned: np.ndarray, number: int) -> None:
        if self._as_channels:
            np.maximum(target, turned, out=target, casting="unsafe")
            return
        taken = int(np.count_nonzero(turned & (target != 0) & (target != number)))
        if taken:
            raise MedicalImageError(
                f"Segment {number} shares {taken} pixels of one plane with another segment, which one map of numbers"
                " cannot hold; read them as channels (as_channels=True), or choose some with segments=.",
                reason="overlapping_segments",
            )
        target[turned] = number


@dataclass(frozen=True, kw_only=True)
class ImageTarget:
    """The image of a mask.

    Args:
        shape: columns, rows, 1.
        affine: from (column, row, mm along the normal) to patient coordinates; None for an unknown place.
        instance: SOPInstanceUID, which must not reach messages.
        frame: index of the frame; None for a file with one frame.
        space: FrameOfReferenceUID, "" if it is missing.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray | None
    instance: str
    frame: int | None
    space: str


@dataclass(frozen=True, kw_only=True)
class ImagePlane:
    """The frames of a segmentation that lie on one image.

    Args:
        shape: columns, rows, 1.
        frames: each with its place on the image.
        matched_by: basis of the match.
    """

    shape: tuple[int, int, int]
    frames: tuple[tuple[SegmentFrame, Placement], ...]
    matched_by: Literal["geometry", "reference", "single_plane"]


def read_image_plane(source: Source, *, frame: int | None, limits: Limits) -> ImageTarget:
    """Read the place of one frame of a DICOM image from its header.

    Raises:
        MedicalImageError: ``multi_frame``, ``bad_frame``, ``missing_tag``, and the errors of reading a header.
    """
    header = read_header(source, limits=limits)
    count = frame_count(header)
    chosen = choose_frame(frame, count, "frame")
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if rows is None or columns is None:
        raise MedicalImageError(
            "Expected a DICOM image with Rows and Columns, one is missing; give the image that the mask is for.",
            reason="missing_tag",
        )
    return ImageTarget(
        shape=(columns, rows, 1),
        affine=plane_affine(read_geometry(header, frame=chosen)),
        instance=str(uid(header, "SOPInstanceUID")),
        frame=chosen if count > 1 else None,
        space=str(uid(header, "FrameOfReferenceUID")),
    )


def frames_of_image(opened: OpenSegmentation, image: ImageTarget) -> ImagePlane:
    """Return the frames that lie on an image; none, with a flag, if the segmentation is known to have none there.

    Raises:
        MedicalImageError: ``mask_mismatch``.
    """
    planes = [plane_affine(frame.geometry) for frame in opened.frames]
    if image.affine is not None and all(plane is not None for plane in planes):
        return _by_geometry(opened, image, image.affine, [plane for plane in planes if plane is not None])
    return _by_reference(opened, image)


def _by_geometry(
    opened: OpenSegmentation, image: ImageTarget, grid: np.ndarray, planes: Sequence[np.ndarray]
) -> ImagePlane:
    space = str(uid(opened.header, "FrameOfReferenceUID"))
    if space and image.space and space != image.space:
        raise _mismatch("the two have different frames of reference")
    size = (opened.layout.columns, opened.layout.rows)
    placed = [place_plane(plane, size, grid) for plane in planes]
    parallel = [
        (frame, place)
        for frame, place in zip(opened.frames, placed, strict=True)
        if place is not None and place.depth == 2
    ]
    if len(parallel) < len(placed):
        raise _mismatch("its pixels lie between those of the image, which has another orientation, spacing or place")
    found = [(frame, place) for frame, place in parallel if abs(place.layer) <= _NEAR_MM]
    citing = [(frame, place) for frame, place in found if _cites(frame, image)]
    if not citing and not (space and image.space) and not _names(opened, image):
        # without a common frame of reference equal coordinates can belong to two patients
        if not found or any(frame.sources for frame, _ in found):
            raise _mismatch("it does not refer to the image, and nothing says that they share a frame of reference")
    elif not found:
        _require_a_place_beside(np.array([place.layer for _, place in parallel]))
        opened.flags.add("no_segment_in_plane")
    # if frames name this image, frames at the same place that name only others belong to another time or phase
    kept = [(frame, place) for frame, place in found if not citing or not frame.sources or _cites(frame, image)]
    flat = [(frame, replace(place, start=place.start * [1, 1, 0])) for frame, place in kept]
    return ImagePlane(shape=image.shape, frames=tuple(flat), matched_by="geometry")


def _require_a_place_beside(layers: np.ndarray) -> None:
    """Refuse an image between the planes of the segmentation; beside them, or on an empty plane, its mask is empty."""
    steps = np.diff(np.unique(np.round(layers, 4)))
    steps = steps[steps > SAME_PLACE_MM]
    if not len(steps) or not layers.min() < 0 < layers.max():
        return
    away = layers[np.abs(layers).argmin()] / steps.min()
    if abs(away - round(away)) * steps.min() > _NEAR_MM:
        raise _mismatch("the image lies between its planes")


def _by_reference(opened: OpenSegmentation, image: ImageTarget) -> ImagePlane:
    columns, rows, _ = image.shape
    if (opened.layout.columns, opened.layout.rows) != (columns, rows):
        raise _mismatch(
            f"the image has {rows} x {columns} pixels, it has {opened.layout.rows} x {opened.layout.columns}, and one"
            " of them has no place in the patient"
        )
    found = [frame for frame in opened.frames if _cites(frame, image)]
    if not found:
        if not _names(opened, image):
            raise _mismatch("it does not refer to the image, and one of them has no place in the patient")
        if any((image.instance, None) in frame.sources for frame in opened.frames):
            raise _mismatch("it refers to the file, and does not say to which of its frames")
        opened.flags.add("no_segment_in_plane")
    identity = Placement(axes=(0, 1), signs=(1, 1), start=np.zeros(3), depth=2)
    return ImagePlane(shape=image.shape, frames=tuple((frame, identity) for frame in found), matched_by="reference")


def _cites(frame: SegmentFrame, image: ImageTarget) -> bool:
    """Return True if a frame was made from the image; a multi-frame file must be named with the frame."""
    return bool(image.instance) and any(
        instance == image.instance and (image.frame is None or number == image.frame)
        for instance, number in frame.sources
    )


def _names(opened: OpenSegmentation, image: ImageTarget) -> bool:
    """Return True if the segmentation names the image, so that a missing frame means an empty mask."""
    listed = {*referenced_images(opened.header)}
    listed |= {instance for frame in opened.frames for instance, _ in frame.sources}
    return bool(image.instance) and image.instance in listed


def _mismatch(why: str) -> MedicalImageError:
    return MedicalImageError(
        f"Expected a segmentation of this image: {why}; give the image, or the frame, that it was made on.",
        reason="mask_mismatch",
    )
