"""Slices of a whole volume as images, equal for a DICOM series and for NIfTI, with their masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, Transform

from movl_monai.readers.dicom import Limits
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.slices import SliceAxis, Volume, axis_index, choose_slices, slice_image, take_slice
from movl_monai.readers.volume import VolumeSource, read_mask_volume, read_volume
from movl_monai.readers.windows import Intensity, Window, check_intensity, resolve_windows

__all__ = ["CanonicalSlices", "CanonicalSlicesd"]


class CanonicalSlices(Transform):
    """Turn a volume into images of its slices, equal for a DICOM series and for NIfTI.

    The volume is brought to LPS. Each slice is shown as DICOM stores that plane, all on one intensity scale.
    :func:`slices_to_volume` puts the predictions of slices back onto the source.

    Args:
        axis: the plane.
        every: take every n-th slice of the range.
        start: first slice, from 0: from the feet (axial), the front (coronal) or the right (sagittal).
        stop: end of the range, exclusive; None for all.
        min_pixels: with a mask, the smallest number of its pixels in a chosen slice.
        intensity: source range of [0, 1]: ``"percentile"`` or ``"minmax"`` of the volume, or ``"ct"`` windows of HU.
        ct_windows: one window (repeated) or three, each a name of ``HU_PRESETS`` or ``[width, level]`` in HU.
        percentiles: (lower, upper) in percent.
        volume_index: index of the volume in a 4D NIfTI file.
        limits: upper limits on the sizes that a file may declare.

    Raises:
        ValueError: for unknown options.

    Example:
        >>> import io
        >>> import nibabel as nib
        >>> file = io.BytesIO(nib.Nifti1Image(np.zeros((4, 5, 9), dtype=np.float32), np.eye(4)).to_bytes())
        >>> CanonicalSlices(every=4)(file).shape
        torch.Size([3, 3, 5, 4])
    """

    def __init__(
        self,
        *,
        axis: SliceAxis = "axial",
        every: int = 1,
        start: int = 0,
        stop: int | None = None,
        min_pixels: int = 1,
        intensity: Intensity = "percentile",
        ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        percentiles: Sequence[float] = (0.5, 99.5),
        volume_index: int | None = None,
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        check_intensity(intensity, percentiles)
        axis_index(axis)
        resolve_windows(ct_windows)
        if every < 1 or start < 0 or min_pixels < 0 or (stop is not None and stop <= start):
            raise ValueError(
                f"slices must be chosen by every >= 1, 0 <= start < stop and min_pixels >= 0, got every={every},"
                f" start={start}, stop={stop}, min_pixels={min_pixels}."
            )
        self.axis = axis
        self.every, self.start, self.stop = every, start, stop
        self.min_pixels = min_pixels
        self.intensity = intensity
        self.ct_windows = tuple(ct_windows)
        self.percentiles = tuple(percentiles)
        self.volume_index = volume_index
        self.limits = limits if isinstance(limits, Limits) else Limits(**(limits or {}))

    def __call__(self, source: VolumeSource, mask: VolumeSource | None = None) -> torch.Tensor:
        """Return the chosen slices.

        Args:
            source: NIfTI file, folder or list of the files of one DICOM series, or a volume.
            mask: the same forms, or a DICOM segmentation; restricts the result to the slices that it marks.

        Returns:
            float32 (slices, 3, rows, columns) in [0, 1], at the volume's own resolution; their indices ascend.

        Raises:
            MedicalImageError: as :func:`read_volume` and :func:`read_mask_volume`; ``bad_frame`` for a range beyond the
                volume; ``no_slices`` if the mask marks none.
        """
        volume = self.volume(source)
        marked = None if mask is None else self.mask(mask, volume)
        return torch.stack([self.image(volume, index)[0] for index in self.chosen(volume, marked)])

    def volume(self, source: VolumeSource) -> Volume:
        """Read the volume."""
        return read_volume(source, volume_index=self.volume_index, limits=self.limits)

    def mask(self, source: VolumeSource, volume: Volume) -> Volume:
        """Read the mask of a volume."""
        return read_mask_volume(source, volume, limits=self.limits)

    def chosen(self, volume: Volume, mask: Volume | None = None) -> list[int]:
        """Return the indices of the slices to take, at least one.

        Raises:
            MedicalImageError: ``bad_frame`` for a range beyond the volume, ``no_slices`` where the mask marks none.
        """
        count = volume.slice_count(self.axis)
        if self.start >= count or (self.stop or 0) > count:
            raise MedicalImageError(
                f"Expected a volume with the slices {self.start} to {self.stop or 'the last'}, got {count} {self.axis}"
                " slices; choose a range within.",
                reason="bad_frame",
            )
        found = choose_slices(
            volume,
            axis=self.axis,
            every=self.every,
            start=self.start,
            stop=self.stop,
            mask=None if mask is None else mask.values,
            min_pixels=self.min_pixels,
        )
        if not found:
            raise MedicalImageError(
                f"Expected slices with at least {self.min_pixels} pixels of the mask, got none in the range; leave the"
                " volume out, or choose without the mask.",
                reason="no_slices",
            )
        return found

    def image(self, volume: Volume, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return one slice as an image (3, rows, columns), and its record, that of :func:`slice_image`."""
        image, record = slice_image(
            volume,
            index,
            axis=self.axis,
            intensity=self.intensity,
            ct_windows=self.ct_windows,
            percentiles=self.percentiles,
        )
        return torch.from_numpy(np.ascontiguousarray(image)), record


class CanonicalSlicesd(MapTransform):
    """Dictionary twin of :class:`CanonicalSlices`: one item for each slice of the item's volume.

    The result is a list of items. MONAI's ``Compose`` maps over it, and its collation flattens it.

    Args:
        keys: the one key of the volume.
        mask_key: key of the volume's mask; each item gets its slice of the mask, (1, rows, columns), whole numbers.
        by_mask: whether to restrict the items to slices that the mask marks.
        frame_key: key for the index of the slice, from 0.
        record_key: key for the record of technical facts; None for no record.

    The other arguments are those of :class:`CanonicalSlices`.

    Raises:
        ValueError: for unknown options, several keys, or ``by_mask`` without a mask.
    """

    def __init__(
        self,
        keys: str = "image",
        *,
        mask_key: str | None = None,
        by_mask: bool = False,
        frame_key: str = "frame",
        record_key: str | None = None,
        axis: SliceAxis = "axial",
        every: int = 1,
        start: int = 0,
        stop: int | None = None,
        min_pixels: int = 1,
        intensity: Intensity = "percentile",
        ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        percentiles: Sequence[float] = (0.5, 99.5),
        volume_index: int | None = None,
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be one key, because a volume has its own slices, got {self.keys}.")
        if by_mask and mask_key is None:
            raise ValueError("by_mask=True needs mask_key, the key of the mask.")
        self.mask_key = mask_key
        self.by_mask = by_mask
        self.frame_key = frame_key
        self.record_key = record_key
        self.transform = CanonicalSlices(
            axis=axis,
            every=every,
            start=start,
            stop=stop,
            min_pixels=min_pixels,
            intensity=intensity,
            ct_windows=ct_windows,
            percentiles=percentiles,
            volume_index=volume_index,
            limits=limits,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return one item for each slice; the other entries are kept in all of them.

        Raises:
            MedicalImageError: as :class:`CanonicalSlices`.
        """
        (key,) = self.keys
        volume = self.transform.volume(data[key])
        mask = None if self.mask_key is None else self.transform.mask(data[self.mask_key], volume)
        items = []
        for index in self.transform.chosen(volume, mask if self.by_mask else None):
            image, record = self.transform.image(volume, index)
            item = {**data, key: image, self.frame_key: index}
            if mask is not None:
                item[self.mask_key] = _mask_slice(mask, index, self.transform.axis)
            if self.record_key is not None:
                item[self.record_key] = record
            items.append(item)
        return items


def _mask_slice(mask: Volume, index: int, axis: SliceAxis) -> torch.Tensor:
    """Return a slice of a mask: uint8, or int32 for numbers above 255."""
    plane = take_slice(mask.values, index, axis)
    if not (np.isfinite(plane).all() and (plane == np.rint(plane)).all() and plane.min() >= 0):
        raise MedicalImageError(
            "Expected a mask of whole numbers >= 0, got other values; make it one of labels.", reason="mask_mismatch"
        )
    dtype = np.uint8 if mask.values.max() < 2**8 else np.int32
    return torch.from_numpy(np.ascontiguousarray(plane[None]).astype(dtype))
