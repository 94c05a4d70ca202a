"""Canvas for the frames of a segmentation: one map of segment numbers, or one channel per segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from movl_monai.readers.dicom.segmentation import OpenSegmentation, SegmentFrame
from movl_monai.readers.dicom.tags import integer
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.placement import Placement

__all__ = ["MaskCanvas", "check_threshold", "chosen_segments"]


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
