"""Assemble the DICOM files of a series into a volume, by their stated positions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from movl_monai.readers.dicom import read_header
from movl_monai.readers.dicom.frame import modality_values, stored_values
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source, sniff_format
from movl_monai.readers.masks import read_segmentation_volume
from movl_monai.readers.nifti import read_nifti
from movl_monai.readers.series import (
    IRREGULAR,
    SAME_PLACE_MM,
    SeriesSlice,
    check_alike,
    series_affine,
    slice_thicknesses,
    slices_of,
    spacing_flags,
)
from movl_monai.readers.slices import Volume, canonical_volume

__all__ = ["VolumeSource", "read_dicom_volume", "read_mask_volume", "read_volume", "series_files"]

VolumeSource: TypeAlias = Source | Sequence[Source] | Volume
"""A NIfTI file, a folder with the files of one DICOM series, the files themselves, or a volume."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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


def read_dicom_volume(
    sources: Sequence[Source],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Volume:
    """Read the files of one DICOM series as a volume in LPS orientation.

    Slices are sorted by ImagePositionPatient along the normal of the planes; InstanceNumber is ignored. Each slice is
    rescaled by its own slope and intercept in floating point (in PET they differ between slices). Pixel padding becomes
    NaN, which is black in images and does not count in the volume's range.

    Args:
        sources: files of single frames, or one multi-frame file, in any order. Among several files with equal pixels at
            one position the first is used.
        limits: upper limits on the sizes that a file may declare; ``values`` applies to the whole volume.

    Returns:
        The volume. ``record`` has ``format``, ``modality``, ``files``, ``slice_positions`` (mm from the first slice, in
        the order of the stored axis) and ``decoder``. ``flags``: ``gap`` (a distance above 1.5 times the usual one),
        ``variable_spacing`` (distances that differ by more than 1 %), ``duplicate_positions``, ``sheared`` (the slices
        are shifted against each other, as by a tilted gantry), ``uneven_shift`` (by unequal amounts),
        ``unknown_thickness`` (of a single slice), ``oblique``, ``padding``. No affine fits volumes with ``gap``,
        ``variable_spacing``, ``uneven_shift`` or ``unknown_thickness``: their voxel volumes are given per slice
        (``voxel_mm3``).

    Raises:
        MedicalImageError: ``missing_tag`` without positions; ``bad_header`` for files of several series, orientations,
            sizes or spacings; ``bad_dimensions`` for different pixels at one position (several echoes or times);
            ``unsupported_photometric`` for colour and for MONOCHROME1; ``too_large``; and the errors of reading one of
            the files.
        ValueError: without files.

    Reference:
        DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    if not sources:
        raise ValueError("sources must name at least one DICOM file, got none.")
    found = [part for source in sources for part in slices_of(source, limits)]
    check_alike(found)
    rows, columns = found[0].shape
    if len(found) * rows * columns > limits.values:
        raise MedicalImageError(
            f"Expected at most {limits.values:,} voxels, got {len(found)} slices of {rows} x {columns}; raise the"
            " limits, or read fewer files.",
            reason="too_large",
        )
    ordered = sorted(found, key=lambda part: float(part.position @ found[0].normal))
    kept, pixels, decoders, flags = _pixels_by_position(ordered, limits)
    affine, places = series_affine(kept)
    flags += spacing_flags(kept, places, affine)
    values = np.stack([plane.T for plane in pixels], axis=-1)
    record: dict[str, Any] = {
        "format": "dicom",
        "modality": kept[0].modality,
        "files": len(sources),
        "slice_positions": [round(float(place), 4) for place in places],
        "decoder": "+".join(sorted(decoders)),
    }
    sizes, offsets = _irregular_sizes(kept, places, affine) if IRREGULAR & {*flags} else (None, None)
    volume = canonical_volume(
        values, _LPS_TO_RAS @ affine, record=record, flags=flags, voxel_mm3=sizes, offsets=offsets
    )
    # the NaN come from _decoded
    return replace(volume, flags=tuple("padding" if flag == "non_finite" else flag for flag in volume.flags))


def _irregular_sizes(
    kept: Sequence[SeriesSlice], places: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxel volume of each slice in mm3, and its offset in mm from its position by the affine."""
    area = float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1])))
    thicknesses = np.array([kept[0].thickness or np.nan]) if len(kept) == 1 else slice_thicknesses(places)
    on_line = affine[:3, 3] + np.arange(len(kept))[:, None] * affine[:3, 2]
    return area * thicknesses, np.array([part.position for part in kept]) - on_line


def _pixels_by_position(
    ordered: Sequence[SeriesSlice], limits: Limits
) -> tuple[list[SeriesSlice], list[np.ndarray], set[str], list[str]]:
    """Decode the slices; leave out slices that repeat the pixels of another at the same position."""
    kept: list[SeriesSlice] = []
    pixels: list[np.ndarray] = []
    decoders: set[str] = set()
    flags: list[str] = []
    for part in ordered:
        plane, decoder = _decoded(part, limits)
        decoders.add(decoder)
        if kept and np.linalg.norm(part.position - kept[-1].position) < SAME_PLACE_MM:
            if not np.array_equal(plane, pixels[-1], equal_nan=True):
                raise MedicalImageError(
                    f"Expected one slice for each position, got different ones at position {len(kept)} of the series;"
                    " split it by echo, phase or time.",
                    reason="bad_dimensions",
                )
            flags = ["duplicate_positions"]
            continue
        kept.append(part)
        pixels.append(plane)
    return kept, pixels, decoders, flags


def _decoded(part: SeriesSlice, limits: Limits) -> tuple[np.ndarray, str]:
    stored = stored_values(part.source, frame=part.frame, limits=limits)
    if stored.layout.photometric == "MONOCHROME1":
        raise MedicalImageError(
            "Expected MONOCHROME2 slices, got MONOCHROME1, whose scale is inverted; read the files as single images.",
            reason="unsupported_photometric",
        )
    frame = modality_values(stored)
    values = frame.values.astype(np.float32)
    if frame.padding is not None:
        values[frame.padding] = np.nan
    return values, stored.decoder
