"""Read slices of NIfTI volumes as images, in LPS orientation and on the intensity scale of the whole volume."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source, open_source
from movl_monai.readers.nifti_header import DAMAGED, FileBytes, damaged_error, read_nifti_header
from movl_monai.readers.slices import SliceAxis, Volume, axis_index, canonical_volume, slice_image
from movl_monai.readers.sniff import sniff_format
from movl_monai.readers.windows import Intensity, Window, check_intensity

__all__ = ["read_nifti", "read_nifti_slice", "slice_count"]


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
