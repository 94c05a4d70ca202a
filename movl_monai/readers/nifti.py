"""Read slices of NIfTI volumes as images, in LPS orientation and on the intensity scale of the whole volume."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source, open_source, sniff_format
from movl_monai.readers.slices import SliceAxis, Volume, axis_index, canonical_volume, slice_image
from movl_monai.readers.windows import Intensity, Window, check_intensity

__all__ = [
    "DAMAGED",
    "FileBytes",
    "NiftiHeader",
    "damaged_error",
    "read_nifti",
    "read_nifti_header",
    "read_nifti_slice",
    "slice_count",
]

_HEADER_CLASSES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_RATIO_FROM = 2**27  # bytes; label maps are mostly zeros and deflate up to 1000 : 1, harmless below this size
DAMAGED = (OSError, EOFError, ValueError, TypeError, OverflowError, zlib.error, nib.spatialimages.HeaderDataError)
"""Errors of nibabel, gzip and zlib on damaged data."""


@dataclass(frozen=True, kw_only=True)
class FileBytes:
    """Size of a file on disk in bytes, and a flag for compression."""

    size: int
    compressed: bool


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """Header fields that are needed to read the voxels.

    Args:
        shape: (I, J, K) of one volume.
        volumes: number of volumes, 1 for 3D.
        dtype: of the stored voxels.
        offset: of the first voxel in bytes.
        slope: scl_slope, None for none.
        inter: scl_inter, None for none.
        affine: (4, 4), invertible, RAS, in mm.
        flags: ``orientation_unknown`` if the file has no usable orientation.
    """

    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype
    offset: int
    slope: float | None
    inter: float | None
    affine: np.ndarray
    flags: tuple[str, ...]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the stored array: 3D, or 4D for several volumes."""
        return self.shape if self.volumes == 1 else (*self.shape, self.volumes)

    def choose_volume(self, index: int | None) -> int | None:
        """Return the index along the fourth axis; None for a 3D file.

        Raises:
            MedicalImageError: ``bad_dimensions`` for 4D without an index, ``bad_frame`` for an index out of range.
        """
        if index is None and self.volumes > 1:
            raise MedicalImageError(
                f"Expected a 3D volume, got {self.volumes} volumes of {self.shape}; give volume_index=0 to"
                f" volume_index={self.volumes - 1}, or split the file.",
                reason="bad_dimensions",
            )
        if index is not None and not 0 <= index < self.volumes:
            raise MedicalImageError(
                f"Expected a volume index from 0 to {self.volumes - 1}, got {index}.", reason="bad_frame"
            )
        return index if self.volumes > 1 else None


def read_nifti_header(stream: BinaryIO, *, file_bytes: FileBytes, limits: Limits) -> NiftiHeader:
    """Read the header at the beginning of a stream and check the sizes that it declares.

    Raises:
        MedicalImageError: ``bad_header``, ``truncated``, ``too_large``, ``rgb_nifti``, ``unsupported_format``,
            ``bad_dimensions``.
    """
    header = _parse(stream)
    shape, volumes = _check_shape(header)
    dtype = _check_dtype(header)
    try:
        offset = max(int(header.get_data_offset()), header.sizeof_hdr)
        slope, inter = header.get_slope_inter()
    except DAMAGED as error:
        raise damaged_error(error, reason="bad_header") from None
    _check_size(int(np.prod(shape, dtype=object)) * volumes, dtype, offset, file_bytes, limits)
    affine, flags = _affine(header)
    return NiftiHeader(
        shape=shape, volumes=volumes, dtype=dtype, offset=offset, slope=slope, inter=inter, affine=affine, flags=flags
    )


def damaged_error(error: BaseException, *, reason: str = "decode_failed") -> MedicalImageError:
    """Return an error with a reason for an error of nibabel or gzip; the original text is not passed on."""
    if isinstance(error, EOFError) or "could the file be damaged" in str(error):
        return MedicalImageError(
            "Expected a complete volume, its data ends too early; copy or export it again.", reason="truncated"
        )
    return MedicalImageError(
        f"Expected a volume that nibabel reads, got {type(error).__name__}; export it again.", reason=reason
    )


def _parse(stream: BinaryIO) -> nib.Nifti1Header:
    try:
        block = stream.read(540)
    except DAMAGED as error:
        raise damaged_error(error, reason="bad_header") from None
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    size = 540 if 540 in sizes else 348
    if len(block) < size:
        raise MedicalImageError(
            f"Expected a header of {size} bytes, got {len(block)}; copy the file again.", reason="truncated"
        )
    # nibabel logs its repairs, without the name of the file
    logger = logging.Logger("silent", level=logging.CRITICAL + 1)
    try:
        header = _HEADER_CLASSES[size](block[:size], check=False)
        header.check_fix(logger=logger, error_level=40)
    except (*DAMAGED, KeyError) as error:
        raise damaged_error(error, reason="bad_header") from None
    return header


def _check_shape(header: nib.Nifti1Header) -> tuple[tuple[int, int, int], int]:
    dimensions = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : 1 + dimensions])
    if not 1 <= dimensions <= 7 or min(shape) < 1:
        raise MedicalImageError(
            f"Expected 2 to 4 positive dimensions, got {dimensions} of {shape}; export it again.", reason="bad_header"
        )
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 1 or len(shape) > 4:
        raise MedicalImageError(
            f"Expected a volume of 2, 3 or 4 dimensions, got the shape {shape}; split the file.",
            reason="bad_dimensions",
        )
    spatial = (*shape[:3], 1) if len(shape) == 2 else shape[:3]
    return (spatial[0], spatial[1], spatial[2]), (shape[3] if len(shape) == 4 else 1)


def _check_dtype(header: nib.Nifti1Header) -> np.dtype:
    dtype = header.get_data_dtype()
    if dtype.fields is not None:
        raise MedicalImageError(
            "Expected one intensity per voxel, got RGB voxels, which have none that is defined; convert the volume to"
            " grey, or its slices to PNG.",
            reason="rgb_nifti",
        )
    if dtype.kind not in "iuf":
        raise MedicalImageError(
            f"Expected real numbers, got {dtype.name}; store the magnitude as float32.", reason="unsupported_format"
        )
    return dtype


def _check_size(values: int, dtype: np.dtype, offset: int, file_bytes: FileBytes, limits: Limits) -> None:
    size = offset + values * dtype.itemsize
    if values > limits.values:
        raise MedicalImageError(
            f"Expected at most {limits.values:,} voxels, the header says {values:,}; raise the limits if it is real.",
            reason="too_large",
        )
    if not file_bytes.compressed:
        if size > file_bytes.size:
            raise MedicalImageError(
                f"Expected {size:,} bytes as the header says, the file has {file_bytes.size:,}; copy it again.",
                reason="truncated",
            )
        return
    ratio_broken = size > _RATIO_FROM and size > limits.inflation_ratio * file_bytes.size
    if size > limits.inflated_bytes or ratio_broken:
        raise MedicalImageError(
            f"Expected gzip of at most {limits.inflated_bytes:,} bytes and {limits.inflation_ratio} : 1, the header"
            f" says {size:,} bytes in {file_bytes.size:,}; decompress the file, or raise the limits if it is real.",
            reason="too_large",
        )


def _affine(header: nib.Nifti1Header) -> tuple[np.ndarray, tuple[str, ...]]:
    known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    try:
        affine = header.get_best_affine()
    except DAMAGED:  # a quaternion longer than 1
        known = False
    if known and _invertible(affine):
        return affine, ()
    base = header.get_base_affine()
    return (base if _invertible(base) else np.diag([-1.0, 1.0, 1.0, 1.0])), ("orientation_unknown",)


def _invertible(affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # of the directions: tiny voxels are fine, parallel axes are not
    return bool((lengths > 0).all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


@quiet()
def read_nifti_slice(
    source: Source,
    *,
    slice_index: int | None = None,
    axis: SliceAxis = "axial",
    intensity: Intensity = "percentile",
    ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
    percentiles: Sequence[float] = (0.5, 99.5),
    volume_index: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one slice of a NIfTI volume as an image.

    The volume is brought to LPS and the slice is shown as DICOM stores that plane. A DICOM series and a NIfTI file of
    one patient give the same pixels (:func:`movl_monai.readers.slices.take_slice`).

    Args:
        source: path of a regular .nii or .nii.gz file, or a seekable binary file object.
        slice_index: from the feet (axial), the front (coronal) or the right (sagittal); optional for a volume of one
            slice.
        axis: the plane, independent of the stored orientation.
        intensity: ``"percentile"`` and ``"minmax"`` map a range of the whole volume to [0, 1], one mapping for all its
            slices; ``"ct"`` takes the values as HU and applies ``ct_windows``.
        ct_windows: one window (repeated) or three, each a name of ``HU_PRESETS`` or ``[width, level]`` in HU.
        percentiles: (lower, upper) in percent.
        volume_index: which volume of a 4D file.
        limits: what the file may ask for at most; the ratio counts above 1 MiB.

    Returns:
        The image, float32 (3, rows, columns) in [0, 1], and a record: ``format``, ``rows``, ``columns``, ``dtype``,
        ``frames``, ``frame``, ``slice_axis``, ``orientation`` (of the stored axes), ``pixel_spacing`` (mm,
        between rows and between columns), ``slice_spacing`` (mm), ``intensity``, ``range`` or ``windows``,
        ``decoder``, ``flags``.

    Raises:
        MedicalImageError: ``multi_frame``, ``bad_frame``, ``bad_dimensions``, ``rgb_nifti``, ``unsupported_format``,
            ``too_large``, ``truncated``, ``bad_header``, ``decode_failed``, ``not_finite``.
        ValueError: for an unknown axis or intensity, or percentiles out of order.

    Example:
        >>> import io
        >>> ramp = np.broadcast_to(np.arange(5, dtype=np.float32), (3, 4, 5))
        >>> file = io.BytesIO(nib.Nifti1Image(ramp, np.eye(4)).to_bytes())
        >>> image, record = read_nifti_slice(file, slice_index=4, intensity="minmax")
        >>> image.shape, float(image.min()), record["frames"], record["orientation"]
        ((3, 4, 3), 1.0, 5, 'RAS')
    """
    check_intensity(intensity, percentiles)
    axis_index(axis)
    volume = read_nifti(source, volume_index=volume_index, limits=limits)
    return slice_image(
        volume, slice_index, axis=axis, intensity=intensity, ct_windows=ct_windows, percentiles=percentiles
    )


@quiet()
def slice_count(source: Source, *, axis: SliceAxis = "axial", limits: Limits = Limits()) -> int:  # noqa: B008 - frozen
    """Return the number of slices of a NIfTI volume from its header.

    Args:
        source: path of a regular .nii or .nii.gz file, or a seekable binary file object.
        axis: the plane, independent of how the voxels are stored.
        limits: upper limits on the sizes that the file may declare.

    Raises:
        MedicalImageError: as :func:`read_nifti_slice`, for errors that the header shows.
    """
    with _nifti_stream(source) as (stream, file_bytes):
        header = read_nifti_header(stream, file_bytes=file_bytes, limits=limits)
    orientation = nib.orientations.io_orientation(header.affine)
    return header.shape[int(np.flatnonzero(orientation[:, 0] == axis_index(axis))[0])]


@quiet()
def read_nifti(
    source: Source,
    *,
    volume_index: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Volume:
    """Read a NIfTI volume in LPS orientation.

    Args:
        source: path of a regular .nii or .nii.gz file, or a seekable binary file object.
        volume_index: which volume of a 4D file.
        limits: what the file may ask for at most; the ratio counts above 1 MiB.

    Returns:
        The volume, with scl_slope and scl_inter applied.

    Raises:
        MedicalImageError: as :func:`read_nifti_slice`.
    """
    with _nifti_stream(source) as (stream, file_bytes):
        header = read_nifti_header(stream, file_bytes=file_bytes, limits=limits)
        which = header.choose_volume(volume_index)
        specification = (header.stored_shape, header.dtype, header.offset, header.slope, header.inter)
        try:
            proxy = ArrayProxy(stream, specification, mmap=False)
            stored = np.asarray(proxy, dtype=np.float32) if which is None else proxy[..., which]
        except (*DAMAGED, MemoryError) as error:
            raise damaged_error(error) from None
    record = {
        "format": "nifti",
        "dtype": str(header.dtype),
        "orientation": "".join(nib.aff2axcodes(header.affine)),
        "volumes": header.volumes,
        "decoder": "nibabel",
    }
    return canonical_volume(stored.reshape(header.shape), header.affine, record=record, flags=header.flags)


@contextmanager
def _nifti_stream(source: Source) -> Iterator[tuple[BinaryIO, FileBytes]]:
    """Open a .nii or .nii.gz file as a stream of its uncompressed bytes."""
    image_format = sniff_format(source)
    if image_format != "nifti":
        pair = " (convert the pair to one .nii file)" if image_format == "nifti_pair" else ""
        raise MedicalImageError(
            f"Expected a .nii or .nii.gz file, got {image_format}{pair}.", reason="unsupported_format"
        )
    with open_source(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file) as stream:
                yield cast(BinaryIO, stream), FileBytes(size=size, compressed=True)
        else:
            yield file, FileBytes(size=size, compressed=False)
