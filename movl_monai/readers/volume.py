"""Assemble the DICOM files of a series into a volume, by their stated positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from movl_monai.readers.dicom.frame import modality_values, stored_values
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source
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

__all__ = ["read_dicom_volume"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
