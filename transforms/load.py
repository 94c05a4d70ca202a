"""Load a medical image of any format, for pipelines of dictionaries or of MONAI's `LoadImage`; the bytes decide."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader
from monai.transforms import MapTransform, Transform
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from movl_monai.readers.dicom import Limits, frame_count, read_dicom, read_header
from movl_monai.readers.dicom.voi import SeriesRange
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source, open_source, sniff_format
from movl_monai.readers.nifti import read_nifti, slice_count
from movl_monai.readers.pillow_file import Exif
from movl_monai.readers.raster import MAX_PIXELS, raster_frame_count, read_raster
from movl_monai.readers.slices import SliceAxis, Volume, axis_index, slice_image
from movl_monai.readers.windows import Intensity, Window, check_intensity, resolve_windows

__all__ = ["DicomRange", "LoadMedicalImage", "LoadMedicalImaged", "MedicalImageReader"]

DicomRange = Literal["full", "percentile"]
"""The range of the stored bits, or the range between two percentiles of the series."""


class LoadMedicalImage(Transform):
    """Load one 2D image from DICOM, NIfTI, PNG, JPEG, TIFF, BMP, WebP or GIF.

    The bytes decide the format. A file with several frames, slices or pages needs an explicit choice. The last NIfTI
    volume is kept, so that reading all slices of a volume in turn decompresses it once.

    Args:
        ct_windows: for CT (and NIfTI with ``nifti_range="ct"``): one window (repeated) or three, each a name of
            ``HU_PRESETS`` or ``[width, level]`` in HU.
        voi: VOI LUT or window of a DICOM file, by index or explanation (not for CT); ``"full"`` for none.
        dicom_range: source range of [0, 1] in grey DICOM files without a window, and with ``voi="full"``: the ``full``
            range of the stored bits, or the ``nifti_percentiles`` of the series (its files in the same folder).
        nifti_range: source range of [0, 1] in NIfTI volumes: the ``nifti_percentiles`` of the volume, its minimum and
            maximum, or CT windows.
        nifti_percentiles: (lower, upper) in percent.
        slice_axis: the plane of NIfTI slices.
        volume_index: index of the volume in a 4D NIfTI file.
        value_range: the (low, high) values that become 0 and 1. Without it, float, 32-bit and signed TIFF files are
            refused, and grey levels of 16 bits (PNG, TIFF) are divided by 65535.
        max_pixels: upper limit on rows x columns of PNG, JPEG, TIFF, BMP, WebP and GIF files.
        exif: "apply" turns photos as EXIF says, "ignore" leaves them as stored.
        limits: upper limits on the sizes that DICOM and NIfTI files may declare.

    Raises:
        ValueError: for unknown options.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2), 51).save(file, "PNG")
        >>> LoadMedicalImage()(file)[:, 0, 0]
        tensor([0.2000, 0.2000, 0.2000])
    """

    def __init__(
        self,
        *,
        ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        voi: int | str = 0,
        dicom_range: DicomRange = "full",
        nifti_range: Intensity = "percentile",
        nifti_percentiles: Sequence[float] = (0.5, 99.5),
        slice_axis: SliceAxis = "axial",
        volume_index: int | None = None,
        value_range: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
        exif: Exif = "apply",
        limits: Limits | Mapping[str, int] | None = None,
    ) -> None:
        if exif not in ("apply", "ignore"):
            raise ValueError(f"exif must be 'apply' or 'ignore', got {exif!r}.")
        check_intensity(nifti_range, nifti_percentiles)
        axis_index(slice_axis)
        resolve_windows(ct_windows)
        _check_ranges(dicom_range, value_range)
        self.ct_windows = tuple(ct_windows)
        self.voi = voi
        self.nifti_range = nifti_range
        self.nifti_percentiles = tuple(nifti_percentiles)
        self.slice_axis = slice_axis
        self.volume_index = volume_index
        self.value_range = value_range
        self.max_pixels = max_pixels
        self.exif = exif
        self.limits = limits if isinstance(limits, Limits) else Limits(**(limits or {}))
        self._series_range = SeriesRange(nifti_percentiles, self.limits) if dicom_range == "percentile" else None
        self._last_volume: tuple[object, Volume] | None = None

    def __call__(self, source: Source, frame: int | None = None) -> torch.Tensor:
        """Load an image.

        Args:
            source: path of a regular file, or a seekable binary file object.
            frame: DICOM frame, NIfTI slice or page, from 0; optional for a file with one.

        Returns:
            float32 (3, rows, columns) in [0, 1], at the file's own resolution.

        Raises:
            MedicalImageError: if the file cannot become an image; ``reason`` says why.
        """
        return self.read(source, frame)[0]

    def read(self, source: Source, frame: int | None = None) -> tuple[torch.Tensor, dict[str, Any]]:
        """Load an image and a record of technical facts: format, size, choices and flags; no patient data.

        Args:
            source: as in :meth:`__call__`.
            frame: as in :meth:`__call__`.

        Returns:
            The image, and the record, whose values are numbers, strings, and lists of them.

        Raises:
            MedicalImageError: as in :meth:`__call__`.
        """
        try:
            return self._read(source, frame)
        except MemoryError:
            # within the limits, but too large for this machine; the next file may still be read
            raise MedicalImageError(
                "Expected an image that fits into memory, there is not enough left for this one; lower max_pixels and"
                " limits to refuse such files at once, or give the process more.",
                reason="too_large",
            ) from None

    def _read(self, source: Source, frame: int | None) -> tuple[torch.Tensor, dict[str, Any]]:
        with open_source(source) as file:
            image_format = sniff_format(file)
            if image_format == "dicom":
                image, record = self._read_dicom(source, file, frame)
            elif image_format in ("nifti", "nifti_pair"):
                # not the open file: volumes are kept by their source
                image, record = self._read_nifti(source, frame)
            elif image_format == "unknown":
                raise _unknown_format()
            else:
                image, record = read_raster(
                    file, frame=frame, value_range=self.value_range, max_pixels=self.max_pixels, exif=self.exif
                )
        return torch.from_numpy(np.ascontiguousarray(image)), record

    def frame_count(self, source: Source) -> int:
        """Return the number of DICOM frames, NIfTI slices along ``slice_axis``, or pages; no pixels are decoded.

        Args:
            source: as in :meth:`__call__`.

        Raises:
            MedicalImageError: as in :meth:`__call__`, for errors that the header shows.
        """
        image_format = sniff_format(source)
        if image_format == "dicom":
            return frame_count(read_header(source, limits=self.limits))
        if image_format in ("nifti", "nifti_pair"):
            return slice_count(source, axis=self.slice_axis, limits=self.limits)
        if image_format == "unknown":
            raise _unknown_format()
        return raster_frame_count(source)

    def _read_dicom(self, source: Source, file: BinaryIO, frame: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        image, record = read_dicom(
            file,
            frame=frame,
            ct_windows=self.ct_windows,
            voi=self.voi,
            full_range=None if self._series_range is None else partial(self._series_range, source),
            limits=self.limits,
        )
        return image, {"format": "dicom"} | record

    def _read_nifti(self, source: Source, frame: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        return slice_image(
            self._volume(source),
            frame,
            axis=self.slice_axis,
            intensity=self.nifti_range,
            ct_windows=self.ct_windows,
            percentiles=self.nifti_percentiles,
        )

    def _volume(self, source: Source) -> Volume:
        key = _file_identity(source)
        if key is not None and self._last_volume is not None and self._last_volume[0] == key:
            return self._last_volume[1]
        self._last_volume = None  # freed before the next one is read
        volume = read_nifti(source, volume_index=self.volume_index, limits=self.limits)
        if key is not None:
            self._last_volume = (key, volume)
        return volume

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the kept volume, for worker processes."""
        return self.__dict__ | {"_last_volume": None}


def _check_ranges(dicom_range: str, value_range: Sequence[float] | None) -> None:
    if dicom_range not in get_args(DicomRange):
        raise ValueError(f"dicom_range must be one of {', '.join(get_args(DicomRange))}, got {dicom_range!r}.")
    if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
        raise ValueError(f"value_range must be (black, white) with black < white, got {value_range!r}.")


def _unknown_format() -> MedicalImageError:
    return MedicalImageError(
        "Expected DICOM, NIfTI, PNG, JPEG, TIFF, BMP, WebP or GIF, the first bytes are of none of them; leave the file"
        " out, or convert it.",
        reason="unsupported_format",
    )


def _file_identity(source: Source) -> tuple[object, ...] | None:
    """Return a key that changes with the content of a file; None for file objects, whose content may change unseen."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    try:
        status = os.stat(source)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class LoadMedicalImaged(MapTransform):
    """Dictionary twin of :class:`LoadMedicalImage`: replaces the path by the image.

    Args:
        keys: of the paths.
        frame_key: optional key of the frame, slice or page to read.
        record_key: key for the record of technical facts; None for no record. With several keys the records go to
            ``{record_key}_{key}``.
        allow_missing_keys: whether items may lack a key.

    The other arguments are those of :class:`LoadMedicalImage`.

    Raises:
        ValueError: for unknown options.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        *,
        frame_key: str = "frame",
        record_key: str | None = None,
        ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        voi: int | str = 0,
        dicom_range: DicomRange = "full",
        nifti_range: Intensity = "percentile",
        nifti_percentiles: Sequence[float] = (0.5, 99.5),
        slice_axis: SliceAxis = "axial",
        volume_index: int | None = None,
        value_range: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
        exif: Exif = "apply",
        limits: Limits | Mapping[str, int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.frame_key = frame_key
        self.record_key = record_key
        self.transform = LoadMedicalImage(
            ct_windows=ct_windows,
            voi=voi,
            dicom_range=dicom_range,
            nifti_range=nifti_range,
            nifti_percentiles=nifti_percentiles,
            slice_axis=slice_axis,
            volume_index=volume_index,
            value_range=value_range,
            max_pixels=max_pixels,
            exif=exif,
            limits=limits,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the images under the keys; the other entries are kept.

        Raises:
            MedicalImageError: as :class:`LoadMedicalImage`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            frame = result.get(self.frame_key)
            image, record = self.transform.read(result[key], None if frame is None else int(frame))
            result[key] = image
            if self.record_key is not None:
                result[self.record_key if len(self.keys) == 1 else f"{self.record_key}_{key}"] = record
        return result


class MedicalImageReader(ImageReader):
    """Give ``LoadImage`` and ``LoadImaged`` the pixels of :class:`LoadMedicalImage`.

    The image is channel-first (3, rows, columns), so ``EnsureChannelFirst`` leaves it unchanged; MONAI's own 2D readers
    give (columns, rows). The meta data are the technical record, as JSON, and an affine of the pixel spacing, without
    patient data. ``LoadImage`` itself still puts the full path into ``meta["filename_or_obj"]`` and returns a
    ``MetaTensor``. :class:`LoadMedicalImaged` does neither.

    Files are read in ``get_data``, not in ``read``: after an error in ``read`` MONAI would try its other readers, which
    might accept a refused file.

    Args:
        frame: frame, slice or page of every file; None for files with one.
        options: of :class:`LoadMedicalImage`.

    Raises:
        ValueError: for unknown options.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2)).save(file, "PNG")
        >>> image, meta = MedicalImageReader().get_data([file])
        >>> image.shape, meta["original_channel_dim"]
        ((3, 2, 4), 0)
    """

    def __init__(self, *, frame: int | None = None, **options: Any) -> None:
        super().__init__()
        self.frame = frame
        self.load = LoadMedicalImage(**options)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return True: the bytes decide, in :meth:`get_data`."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[PathLike, ...]:
        """Return the paths; nothing is opened yet.

        Raises:
            TypeError: for any keyword argument.
        """
        if kwargs:
            raise TypeError(
                f"MedicalImageReader.read takes no options, got {', '.join(kwargs)}; give them to __init__."
            )
        return ensure_tuple(data)

    def get_data(self, img: Sequence[PathLike] | PathLike) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the files; several are concatenated along the channels, as in MONAI's readers.

        Args:
            img: the result of :meth:`read`.

        Returns:
            float32 (3, rows, columns) in [0, 1], or (3 n, rows, columns) for n files; and the meta data of the first.

        Raises:
            MedicalImageError: if a file cannot become an image.
            ValueError: if several files differ in size.
        """
        loaded = [self.load.read(path, self.frame) for path in ensure_tuple(img)]
        shapes = sorted({tuple(image.shape) for image, _ in loaded})
        if len(shapes) > 1:
            raise ValueError(f"Files that are loaded together must have one size, got {shapes}; resize them first.")
        return np.concatenate([image.numpy() for image, _ in loaded]), _meta(loaded[0][1])


def _meta(record: Mapping[str, Any]) -> dict[str, Any]:
    rows_mm, columns_mm = record.get("pixel_spacing") or (1.0, 1.0)
    affine = np.diag([rows_mm, columns_mm, 1.0, 1.0])
    return {
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        MetaKeys.SPATIAL_SHAPE: np.array([record["rows"], record["columns"]]),
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        # axes of the picture: rows and columns in mm, without a place in the patient
        MetaKeys.SPACE: SpaceKeys.RAS,
        # as text, because MONAI collates meta data, and lists of flags have no common length
        "record": json.dumps(record),
    }
