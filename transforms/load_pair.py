"""Load an image together with its mask, and check that the two belong together."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from monai.transforms import Transform

from movl_monai.readers.dicom import Limits
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import RASTER_FORMATS, sniff_format
from movl_monai.readers.label_map import looks_swapped, mask_classes, read_label_map
from movl_monai.readers.masks import read_segmentation
from movl_monai.readers.pillow_file import Exif, turn_array
from movl_monai.readers.raster import raster_turn
from movl_monai.readers.slices import SliceAxis, Volume, slice_image, take_slice
from movl_monai.readers.volume import read_mask_volume, read_volume
from movl_monai.readers.windows import Intensity, Window
from movl_monai.transforms.load import DicomRange, LoadMedicalImage

__all__ = ["LoadImageMask", "LoadImageMaskd"]

Path = str | os.PathLike[str]


class LoadImageMask(Transform):
    """Load one image, or one slice of a volume, with its mask as classes.

    Volumes are NIfTI files, or folders with the files of one DICOM series. :func:`movl_monai.readers.slice_image`
    gives their slices, in any stored orientation, and the mask is cut in the same way. The last volume and mask are
    kept, so that reading all slices in turn reads the files once.

    The mask of an image is a PNG, JPEG or other raster file, or a DICOM segmentation. The mask of a volume is NIfTI or
    a DICOM segmentation. Mask and image must match in rows and columns, for volumes in shape and affine.

    Args:
        num_classes: number of classes, including the background (0); 2 to 256.
        mask_threshold: values of at least this are class 1; for two classes and masks saved as JPEG. None: every value
            must be a class.
        mask_values: the value of each class, in class order, such as [0, 255]; None: class k has the value k.
        neighbors: whether the channels of a volume's slice are the slice before, the slice, and the slice after it (at
            the ends the slice itself), instead of the slice three times. It has no effect on images.
        ct_windows: see :class:`LoadMedicalImage`; one window with ``neighbors``.
        voi: see :class:`LoadMedicalImage`.
        dicom_range: see :class:`LoadMedicalImage`; a DICOM series uses ``nifti_range`` instead.
        nifti_range: source range of [0, 1] in volumes; a DICOM series of CT uses ``ct_windows`` instead.
        slice_axis: the plane of the slices of volumes.
        value_range: see :class:`LoadMedicalImage`.
        exif: use of the EXIF orientation of photos. "apply": image and mask are each turned by their own EXIF, for
            masks drawn on the photo as viewers show it. "ignore": both stay as stored. None: images are turned; a mask
            is turned with its image if EXIF or the sizes show that it was drawn on the stored pixels, and a pair that
            shows neither is refused.
        limits: upper limits on the sizes that a file may declare.

    Raises:
        ValueError: for options that are unknown or contradict each other.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, level in (("image.png", 51), ("mask.png", 1)):
        ...         Image.new("L", (4, 2), level).save(f"{folder}/{name}")
        ...     image, mask, record = LoadImageMask(num_classes=2).read(f"{folder}/image.png", f"{folder}/mask.png")
        >>> image.shape, mask.shape, mask.dtype, int(mask.sum())
        (torch.Size([3, 2, 4]), torch.Size([1, 2, 4]), torch.uint8, 8)
    """

    def __init__(
        self,
        *,
        num_classes: int,
        mask_threshold: float | None = None,
        mask_values: Sequence[int] | None = None,
        neighbors: bool = False,
        ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        voi: int | str = 0,
        dicom_range: DicomRange = "full",
        nifti_range: Intensity = "percentile",
        slice_axis: SliceAxis = "axial",
        value_range: tuple[float, float] | None = None,
        exif: Exif | None = None,
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        _check_mask_options(num_classes, mask_threshold, mask_values)
        if neighbors and len(set(map(str, ct_windows))) > 1:
            raise ValueError(
                f"neighbors=True puts one slice into each channel, so there is one CT window, got {list(ct_windows)}."
            )
        self.num_classes = num_classes
        self.mask_threshold = mask_threshold
        self.mask_values = None if mask_values is None else tuple(mask_values)
        self.neighbors = neighbors
        self.images = LoadMedicalImage(
            ct_windows=ct_windows,
            voi=voi,
            dicom_range=dicom_range,
            nifti_range=nifti_range,
            slice_axis=slice_axis,
            value_range=value_range,
            exif=exif or "apply",
            limits=limits,
        )
        self.exif = exif
        self._volume: tuple[object, Volume] | None = None
        self._mask: tuple[object, Volume] | None = None

    def __call__(self, source: Path, mask: Path | None = None, frame: int | None = None) -> torch.Tensor:
        """Load an image (3, rows, columns) without its mask; see :meth:`read`."""
        return self.read(source, mask, frame)[0]

    def read(
        self, source: Path | Sequence[Path], mask: Path | None = None, frame: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, Any]]:
        """Load an image, its mask, and a record of technical facts.

        Args:
            source: path of an image, a NIfTI volume, or a folder with one DICOM series; or the files of a series.
            mask: path of the mask; None for no mask.
            frame: frame, slice or page, from 0; optional for a file with one.

        Returns:
            float32 (3, rows, columns) in [0, 1]; uint8 (1, rows, columns) in 0 .. num_classes - 1, or None; and the
            record, with ``slice_axis`` for a slice. The flags of a DICOM segmentation follow the flags of its image.
            ``looks_swapped`` marks an image of few levels with a mask of many.

        Raises:
            MedicalImageError: as in reading the image; ``mask_mismatch`` for a mask that does not lie on it;
                ``mask_values`` for values without a class.
        """
        if not _is_volume(source):
            image, record = self.images.read(cast(Path, source), frame)
            values, more = (None, []) if mask is None else self._image_mask(mask, cast(Path, source), frame)
        else:
            volume = self.volume(source)
            pixels, record = self._slice(volume, frame)
            image = torch.from_numpy(np.ascontiguousarray(pixels))
            values, more = (None, []) if mask is None else self._slice_mask(mask, source, volume, record["frame"])
        if values is None:
            return image, None, record
        if values.shape != tuple(image.shape[1:]):
            raise MedicalImageError(
                f"Expected a mask of the image's {image.shape[1]} x {image.shape[2]} pixels, got {values.shape[0]} x"
                f" {values.shape[1]}; give the mask that was drawn on this image.",
                reason="mask_mismatch",
            )
        swapped = looks_swapped(image[0].numpy(), values)
        more += ["looks_swapped"] if swapped else []
        if more:
            record = record | {"flags": list(dict.fromkeys([*record.get("flags", ()), *more]))}
        return image, self._classes(values, swapped=swapped), record

    def volume(self, source: Path | Sequence[Path]) -> Volume:
        """Return a volume; the last one is kept."""
        key = _identity(source)
        if self._volume is None or self._volume[0] != key:
            self._volume = None  # freed before the next one is read
            self._volume = (key, read_volume(cast(Any, source), limits=self.images.limits))
        return self._volume[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the kept volumes, for worker processes."""
        return self.__dict__ | {"_volume": None, "_mask": None}

    def _slice(self, volume: Volume, frame: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        options: dict[str, Any] = {
            "axis": self.images.slice_axis,
            "intensity": "ct" if volume.record.get("modality") == "CT" else self.images.nifti_range,
            "ct_windows": self.images.ct_windows,
            "percentiles": self.images.nifti_percentiles,
        }
        image, record = slice_image(volume, frame, **options)
        if not self.neighbors:
            return image, record
        chosen, last = record["frame"], record["frames"] - 1
        sides = [slice_image(volume, min(max(chosen + step, 0), last), **options)[0][0] for step in (-1, 1)]
        return np.stack([sides[0], image[0], sides[1]]), record | {"neighbors": True}

    def _slice_mask(
        self, mask: Path, source: Path | Sequence[Path], volume: Volume, index: int
    ) -> tuple[np.ndarray, list[str]]:
        key = (_identity(mask), _identity(source))
        if self._mask is None or self._mask[0] != key:
            self._mask = (key, read_mask_volume(mask, volume, limits=self.images.limits))
        read = self._mask[1]
        flags = read.flags if "segmentation_type" in read.record else ()
        return take_slice(read.values, index, self.images.slice_axis), list(flags)

    def _image_mask(self, mask: Path, source: Path, frame: int | None) -> tuple[np.ndarray, list[str]]:
        mask_format = sniff_format(mask)
        if mask_format == "dicom":
            values, record = read_segmentation(mask, source, image_frame=frame, limits=self.images.limits)
            return values[0], record["flags"]
        if mask_format in ("nifti", "nifti_pair"):
            raise MedicalImageError(
                "Expected the mask of an image as a raster file or DICOM segmentation, got a NIfTI volume; give the"
                " image as NIfTI too, or the mask as PNG.",
                reason="mask_mismatch",
            )
        as_grey = self.mask_threshold is not None
        turn = _turn_with_image(source, mask, frame) if self.exif is None else None
        if turn is not None:
            return turn_array(read_label_map(mask, frame=frame, as_grey=as_grey, exif="ignore"), turn), []
        return read_label_map(mask, frame=frame, as_grey=as_grey, exif=self.images.exif), []

    def _classes(self, values: np.ndarray, *, swapped: bool) -> torch.Tensor:
        try:
            classes = mask_classes(
                values, num_classes=self.num_classes, threshold=self.mask_threshold, mask_values=self.mask_values
            )
        except MedicalImageError as error:
            if not swapped:
                raise
            raise MedicalImageError(
                "Expected a mask of few values on an image of many levels, got the reverse: the two seem to be swapped;"
                f" give the image as the image. As they are: {error}",
                reason=error.reason,
            ) from None
        return torch.from_numpy(np.ascontiguousarray(classes))[None]


def _turn_with_image(image: Path, mask: Path, frame: int | None) -> int | None:
    """Return the EXIF orientation of the image by which its mask must be turned; None if the mask's own EXIF applies.

    Raises:
        MedicalImageError: ``mask_mismatch`` if neither EXIF nor the sizes decide.
    """
    if sniff_format(image) not in RASTER_FORMATS or sniff_format(mask) not in RASTER_FORMATS:
        return None
    (turn, size), (own, mask_size) = (raster_turn(path, frame=frame) for path in (image, mask))
    if turn == own:
        return None
    on_stored = size == mask_size
    on_shown = _turned(size, turn) == _turned(mask_size, own)
    if on_stored and on_shown:
        raise MedicalImageError(
            f"Expected an image and a mask that are turned alike, EXIF turns the image (orientation {turn}) and not the"
            f" mask ({own}), and their sizes do not tell on which pixels the mask was drawn; set `--exif ignore` (exif="
            "'ignore') if on the pixels as they are stored, `--exif apply` if on the image as viewers show it.",
            reason="mask_mismatch",
        )
    return turn if on_stored else None


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation >= 5 else size


def _check_mask_options(num_classes: int, threshold: float | None, mask_values: Sequence[int] | None) -> None:
    if not 2 <= num_classes <= 256:
        raise ValueError(f"num_classes must be from 2 (the background counts) to 256, got {num_classes}.")
    if threshold is not None and (num_classes != 2 or mask_values is not None):
        raise ValueError("mask_threshold makes two classes; use it with num_classes=2 and without mask_values.")
    if mask_values is not None and (len(mask_values) != num_classes or len(set(mask_values)) != num_classes):
        raise ValueError(f"mask_values must be {num_classes} different numbers, one per class, got {mask_values}.")


def _is_volume(source: Path | Sequence[Path]) -> bool:
    return not _is_path(source) or os.path.isdir(source) or sniff_format(source) in ("nifti", "nifti_pair")


def _is_path(source: Path | Sequence[Path]) -> TypeGuard[Path]:
    return isinstance(source, (str, os.PathLike))


def _identity(source: Path | Sequence[Path]) -> tuple[object, ...]:
    """Return a key that changes with the content of a file."""
    if not isinstance(source, (str, os.PathLike)):
        return tuple(_identity(part) for part in source)
    try:
        status = os.stat(source)
    except OSError:
        return (os.fspath(source),)
    return os.fspath(source), status.st_size, status.st_mtime_ns


class LoadImageMaskd(Transform):
    """Dictionary twin of :class:`LoadImageMask`: replaces the paths of an item by its image and mask.

    Args:
        image_key: of the image's path.
        mask_key: of the mask's path; an item without it gets no mask.
        frame_key: optional key of the frame, slice or page to read.
        record_key: key for the record of technical facts; None for no record.
        native_key: key for the mask at its own size, before resizing; None for no copy.

    The other arguments are those of :class:`LoadImageMask`.

    Raises:
        ValueError: for options that are unknown or contradict each other.
    """

    def __init__(
        self,
        image_key: str = "image",
        mask_key: str = "mask",
        *,
        num_classes: int,
        frame_key: str = "frame",
        record_key: str | None = "record",
        native_key: str | None = "native_mask",
        mask_threshold: float | None = None,
        mask_values: Sequence[int] | None = None,
        neighbors: bool = False,
        ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        voi: int | str = 0,
        dicom_range: DicomRange = "full",
        nifti_range: Intensity = "percentile",
        slice_axis: SliceAxis = "axial",
        value_range: tuple[float, float] | None = None,
        exif: Exif | None = None,
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        self.image_key = image_key
        self.mask_key = mask_key
        self.frame_key = frame_key
        self.record_key = record_key
        self.native_key = native_key
        self.transform = LoadImageMask(
            num_classes=num_classes,
            mask_threshold=mask_threshold,
            mask_values=mask_values,
            neighbors=neighbors,
            ct_windows=ct_windows,
            voi=voi,
            dicom_range=dicom_range,
            nifti_range=nifti_range,
            slice_axis=slice_axis,
            value_range=value_range,
            exif=exif,
            limits=limits,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the image and the mask; the other entries are kept.

        Raises:
            MedicalImageError: as :meth:`LoadImageMask.read`.
        """
        result = dict(data)
        frame = result.get(self.frame_key)
        image, mask, record = self.transform.read(
            result[self.image_key], result.get(self.mask_key), None if frame is None else int(frame)
        )
        result[self.image_key] = image
        if mask is not None:
            result[self.mask_key] = mask
            if self.native_key is not None:
                result[self.native_key] = mask
        if self.record_key is not None:
            result[self.record_key] = record
        return result
