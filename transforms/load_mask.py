"""Load the mask of an image from a DICOM segmentation, in the orientation of the loaded image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from movl_monai.readers.dicom import Limits
from movl_monai.readers.files import Source
from movl_monai.readers.mask_target import check_threshold
from movl_monai.readers.masks import read_segmentation

__all__ = ["LoadSegmentation", "LoadSegmentationd"]


class LoadSegmentation(Transform):
    """Load the mask of one image from a DICOM segmentation (BINARY, FRACTIONAL or LABELMAP).

    The mask lies pixel by pixel on the image that :class:`LoadMedicalImage` loads. :func:`read_segmentation` describes
    how the two are matched.

    Args:
        segments: numbers or SegmentLabels of the segments to read; None for all.
        as_channels: one channel for each segment, instead of one map of segment numbers.
        threshold: FRACTIONAL values of at least this (in [0, 1]) belong to the segment; None returns the values
            themselves, as channels.
        limits: upper limits on the sizes that a file may declare.

    Raises:
        ValueError: for a threshold beyond (0, 1], or None without channels.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> mask = LoadSegmentation(segments=["liver"])(get_testdata_file("liver_1frame.dcm", download=False))
        >>> mask.shape, mask.dtype, mask.unique().tolist()
        (torch.Size([1, 512, 512]), torch.uint8, [0, 1])
    """

    def __init__(
        self,
        *,
        segments: Sequence[int | str] | None = None,
        as_channels: bool = False,
        threshold: float | None = 0.5,
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        check_threshold(threshold, as_channels=as_channels)
        self.segments = None if segments is None else tuple(segments)
        self.as_channels = as_channels
        self.threshold = threshold
        self.limits = limits if isinstance(limits, Limits) else Limits(**(limits or {}))

    def __call__(self, source: Source, image: Source | None = None, image_frame: int | None = None) -> torch.Tensor:
        """Load a mask.

        Args:
            source: the segmentation: path of a regular file, or a seekable binary file object.
            image: the DICOM image of the mask; optional if all frames lie in one plane.
            image_frame: frame of the image, from 0; optional for an image with one frame.

        Returns:
            (1, rows, columns) of segment numbers, 0 for background: uint8, or int32 for numbers above 255. As channels:
            (segments, rows, columns) of 0 and 1, uint8; without threshold float32 in [0, 1].

        Raises:
            MedicalImageError: if the segmentation cannot become a mask of the image; ``reason`` says why.
        """
        return self.read(source, image, image_frame)[0]

    def read(
        self, source: Source, image: Source | None = None, image_frame: int | None = None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Load a mask and the record of technical facts of :func:`read_segmentation`; no patient data.

        Raises:
            MedicalImageError: as in :meth:`__call__`.
        """
        mask, record = read_segmentation(
            source,
            image,
            image_frame=image_frame,
            segments=self.segments,
            as_channels=self.as_channels,
            threshold=self.threshold,
            limits=self.limits,
        )
        return torch.from_numpy(mask), record


class LoadSegmentationd(MapTransform):
    """Dictionary twin of :class:`LoadSegmentation`: replaces a segmentation's path by the mask of the item's image.

    It belongs before :class:`LoadMedicalImaged`, because it needs the path of the image.

    Args:
        keys: of the paths of segmentations.
        image_key: key of the image's path; None for segmentations whose frames lie in one plane.
        frame_key: optional key of the image's frame.
        record_key: key for the record of technical facts; None for no record. With several keys the records go to
            ``{record_key}_{key}``.
        allow_missing_keys: whether items may lack a key.

    The other arguments are those of :class:`LoadSegmentation`.

    Raises:
        ValueError: for a threshold beyond (0, 1], or None without channels.
    """

    def __init__(
        self,
        keys: KeysCollection = "mask",
        *,
        image_key: str | None = "image",
        frame_key: str = "frame",
        record_key: str | None = None,
        segments: Sequence[int | str] | None = None,
        as_channels: bool = False,
        threshold: float | None = 0.5,
        limits: Limits | Mapping[str, int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.frame_key = frame_key
        self.record_key = record_key
        self.transform = LoadSegmentation(
            segments=segments, as_channels=as_channels, threshold=threshold, limits=limits
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the masks under the keys; the other entries are kept.

        Raises:
            MedicalImageError: as :class:`LoadSegmentation`.
            TypeError: if the image is already loaded.
        """
        result = dict(data)
        image = None if self.image_key is None else result[self.image_key]
        if image is not None and not isinstance(image, (str, os.PathLike)) and not hasattr(image, "seek"):
            raise TypeError(
                f"{self.image_key!r} must be the path of a DICOM image, got {type(image).__name__}; put"
                " LoadSegmentationd before the transform that loads the image."
            )
        for key in self.key_iterator(result):
            frame = result.get(self.frame_key)
            mask, record = self.transform.read(result[key], image, None if frame is None else int(frame))
            result[key] = mask
            if self.record_key is not None:
                result[self.record_key if len(self.keys) == 1 else f"{self.record_key}_{key}"] = record
        return result
