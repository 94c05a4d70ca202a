"""Read a volume or its mask from any form: NIfTI, folder or files of a DICOM series, segmentation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from movl_monai.readers.dicom import Limits, read_header
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source
from movl_monai.readers.masks import read_segmentation_volume
from movl_monai.readers.nifti import read_nifti
from movl_monai.readers.slices import Volume
from movl_monai.readers.sniff import sniff_format
from movl_monai.readers.volume import read_dicom_volume

__all__ = ["VolumeSource", "read_mask_volume", "read_volume", "series_files"]

VolumeSource: TypeAlias = Source | Sequence[Source] | Volume
"""A NIfTI file, a folder with the files of one DICOM series, the files themselves, or a volume."""


def read_volume(
    source: VolumeSource,
    *,
    volume_index: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Volume:
    """Read a volume in LPS orientation from any of its forms.

    All DICOM images directly in a folder are read, and must be one series. Links are not followed; other files are
    skipped and counted as ``skipped`` in the record.

    Args:
        source: NIfTI file, DICOM file, folder of one DICOM series, list of its files, or a volume, returned as it is.
        volume_index: index of the volume in a 4D NIfTI file.
        limits: upper limits on the sizes that a file may declare.

    Raises:
        MedicalImageError: as :func:`read_nifti` and :func:`read_dicom_volume`; ``not_image`` for a folder without
            DICOM images; ``unsupported_format``.
    """
    if isinstance(source, Volume):
        return source
    if _is_folder(source):
        files, skipped = series_files(Path(cast(str, source)), limits)
        volume = read_dicom_volume(files, limits=limits)
        volume.record["skipped"] = skipped
        return volume
    if _is_several(source):
        return read_dicom_volume(list(cast(Sequence[Source], source)), limits=limits)
    file = cast(Source, source)
    if sniff_format(file) == "dicom":
        return read_dicom_volume([file], limits=limits)
    return read_nifti(file, volume_index=volume_index, limits=limits)


def read_mask_volume(
    source: VolumeSource,
    volume: Volume,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Volume:
    """Read the mask of a volume from a DICOM segmentation, or from any source of :func:`read_volume`.

    Raises:
        MedicalImageError: ``mask_mismatch`` if it does not lie on the voxels of the volume; and the errors of reading.
    """
    if not isinstance(source, Volume) and not _is_several(source) and not _is_folder(source):
        file = cast(Source, source)
        if sniff_format(file) == "dicom":
            return read_segmentation_volume(file, volume, limits=limits)
    mask = read_volume(source, limits=limits)
    # a tenth of a voxel, over the whole volume
    corners = np.array([[0, 0, 0, 1], [*(size - 1 for size in volume.values.shape), 1]]).T
    apart = np.abs(np.linalg.inv(volume.affine) @ mask.affine @ corners - corners).max()
    if mask.values.shape != volume.values.shape or apart > 0.1:
        raise MedicalImageError(
            f"Expected a mask on the voxels of the volume, {volume.values.shape} in LPS, got {mask.values.shape}, up to"
            f" {apart:.1f} voxels away; resample it to the volume.",
            reason="mask_mismatch",
        )
    return mask


def series_files(folder: Path, limits: Limits) -> tuple[list[Path], int]:
    """Return the DICOM images directly in a folder, sorted by name, and the number of other files.

    Raises:
        MedicalImageError: ``not_image`` if there is none.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    kept = [folder / name for name in names if _is_dicom_image(folder / name, limits)]
    if not kept:
        raise MedicalImageError(
            f"Expected a folder with the DICOM images of one series, none of its {len(names)} files is one; name the"
            " folder that the files lie in.",
            reason="not_image",
        )
    return kept, len(names) - len(kept)


def _is_dicom_image(path: Path, limits: Limits) -> bool:
    if os.path.getsize(path) == 0 or sniff_format(path) != "dicom":
        return False
    return "Rows" in read_header(path, limits=limits)


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, os.PathLike)) and os.path.isdir(source)


def _is_several(source: object) -> bool:
    return isinstance(source, Sequence) and not isinstance(source, (str, bytes))
