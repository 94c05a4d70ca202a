"""Put the DICOM files of a series together to a volume, by the positions that they state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from movl_monai.transforms.dicom.frame import modality_values, stored_values
from movl_monai.transforms.dicom.geometry import read_geometry
from movl_monai.transforms.dicom.header import read_header
from movl_monai.transforms.dicom.layout import frame_count
from movl_monai.transforms.dicom.limits import Limits
from movl_monai.transforms.dicom.record import modality_code
from movl_monai.transforms.dicom.tags import code_string, integer, number
from movl_monai.transforms.errors import MedicalImageError
from movl_monai.transforms.files import Source
from movl_monai.transforms.slices import Volume, canonical_volume
from pydicom import FileDataset

__all__ = ["read_dicom_volume"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_PLACE = 0.01  # mm
_UNEVEN = 0.01  # of the spacing


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Where one frame lies; all lengths in mm, LPS."""

    source: Source
    frame: int
    shape: tuple[int, int]
    spacing: tuple[float, float]
    position: np.ndarray
    orientation: np.ndarray
    series: str
    modality: str
    thickness: float

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])


def read_dicom_volume(
    sources: Sequence[Source],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Volume:
    """Read the files of one DICOM series as a volume in LPS orientation.

    Slices are sorted by ImagePositionPatient along the normal of the planes; InstanceNumber is not looked at. Each is
    rescaled by its own slope and intercept in floating point (PET changes them from slice to slice). Pixel padding
    becomes NaN, which is black in images and does not count in the volume's range.

    Args:
        sources: files of single frames, or one multi-frame file, in any order. Of several files with the same pixels at
            the same position the first is taken.
        limits: what the files may ask for at most; ``values`` counts for the whole volume.

    Returns:
        The volume. ``record`` has ``format``, ``modality``, ``files``, ``slice_positions`` (mm from the first slice, in
        the order of the stored axis) and ``decoder``. ``flags``: ``gap`` (a distance above 1.5 times the usual one),
        ``variable_spacing`` (distances that differ by more than 1 %), ``duplicate_positions``, ``sheared`` (the slices
        are shifted against each other, as by a tilted gantry), ``oblique``, ``padding``.

    Raises:
        MedicalImageError: ``missing_tag`` without positions; ``bad_header`` for files of several series, orientations,
            sizes or spacings; ``bad_dimensions`` for different pixels at one position (several echoes or times);
            ``unsupported_photometric`` for colour and for MONOCHROME1; ``too_large``; and whatever reading one of the
            files raises.
        ValueError: without files.

    Reference:
        DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    if not sources:
        raise ValueError("sources must name at least one DICOM file, got none.")
    found = [part for source in sources for part in _slices_of(source, limits)]
    _check_alike(found)
    rows, columns = found[0].shape
    if len(found) * rows * columns > limits.values:
        raise MedicalImageError(
            f"Expected at most {limits.values:,} voxels, got {len(found)} slices of {rows} x {columns}; raise the"
            " limits, or read fewer files.",
            reason="too_large",
        )
    ordered = sorted(found, key=lambda part: float(part.position @ found[0].normal))
    kept, pixels, decoders, flags = _pixels_by_position(ordered, limits)
    affine, places = _affine(kept)
    flags += _spacing_flags(kept, places, affine)
    values = np.stack([plane.T for plane in pixels], axis=-1)
    record: dict[str, Any] = {
        "format": "dicom",
        "modality": kept[0].modality,
        "files": len(sources),
        "slice_positions": [round(float(place), 4) for place in places],
        "decoder": "+".join(sorted(decoders)),
    }
    return _without_padding_flag(canonical_volume(values, _LPS_TO_RAS @ affine, record=record, flags=flags))


def _slices_of(source: Source, limits: Limits) -> list[_Slice]:
    header = read_header(source, limits=limits)
    count = frame_count(header)
    if count > limits.frames:
        raise MedicalImageError(f"Expected at most {limits.frames} frames, got {count}.", reason="too_large")
    return [_slice(source, header, frame) for frame in range(count)]


def _slice(source: Source, header: FileDataset, frame: int) -> _Slice:
    geometry = read_geometry(header, frame=frame)
    if geometry.position is None or geometry.orientation is None or geometry.spacing is None:
        raise MedicalImageError(
            "Expected ImagePositionPatient, ImageOrientationPatient and PixelSpacing in every file of a volume, one"
            " lacks them; read the files as single images.",
            reason="missing_tag",
        )
    return _Slice(
        source=source,
        frame=frame,
        shape=(integer(header, "Rows") or 0, integer(header, "Columns") or 0),
        spacing=geometry.spacing,
        position=np.array(geometry.position),
        orientation=np.array(geometry.orientation),
        series=code_string(header, "SeriesInstanceUID"),
        modality=modality_code(header),
        thickness=_thickness(header),
    )


def _thickness(header: FileDataset) -> float:
    """Distance to the next slice where there is none: only the affine of a single slice depends on it."""
    stated = [number(header, keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    return next((value for value in stated if value is not None and value > 0), 1.0)


def _check_alike(found: Sequence[_Slice]) -> None:
    first = found[0]
    different = {
        "series": sum(part.series != first.series for part in found),
        "orientation": sum(not np.allclose(part.orientation, first.orientation, atol=1e-3) for part in found),
        "size": sum(part.shape != first.shape for part in found),
        "pixel spacing": sum(not np.allclose(part.spacing, first.spacing, rtol=1e-3) for part in found),
    }
    for what, count in different.items():
        if count:
            raise MedicalImageError(
                f"Expected the slices of one volume, got {count} of {len(found)} with another {what} than the first;"
                " leave localizers out and read every series by itself.",
                reason="bad_header",
            )
    if not np.isclose(np.linalg.norm(first.normal), 1, atol=1e-2):
        raise MedicalImageError(
            "ImageOrientationPatient must hold two perpendicular directions of length 1; read the files as single"
            " images.",
            reason="bad_header",
        )


def _pixels_by_position(
    ordered: Sequence[_Slice], limits: Limits
) -> tuple[list[_Slice], list[np.ndarray], set[str], list[str]]:
    """Decode the slices; leave out those that repeat the pixels of another at the same position."""
    kept: list[_Slice] = []
    pixels: list[np.ndarray] = []
    decoders: set[str] = set()
    flags: list[str] = []
    for part in ordered:
        plane, decoder = _decoded(part, limits)
        decoders.add(decoder)
        if kept and np.linalg.norm(part.position - kept[-1].position) < _SAME_PLACE:
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


def _decoded(part: _Slice, limits: Limits) -> tuple[np.ndarray, str]:
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


def _affine(kept: Sequence[_Slice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the LPS affine from (column, row, slice), and the slices' places along the normal in mm."""
    first, last = kept[0], kept[-1]
    places = np.array([float((part.position - first.position) @ first.normal) for part in kept])
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    if len(kept) == 1:
        affine[:3, 2] = first.normal * first.thickness
    else:
        affine[:3, 2] = (last.position - first.position) / (len(kept) - 1)
    affine[:3, 3] = first.position
    return affine, places


def _spacing_flags(kept: Sequence[_Slice], places: np.ndarray, affine: np.ndarray) -> list[str]:
    if len(kept) == 1:
        return []
    distances = np.diff(places)
    usual = float(np.median(distances))
    flags = []
    if distances.max() > 1.5 * usual:
        flags.append("gap")
    if np.abs(distances - usual).max() > max(_UNEVEN * usual, _SAME_PLACE):
        flags.append("variable_spacing")
    step = affine[:3, 2]
    if float(step @ kept[0].normal) < np.cos(np.radians(1)) * np.linalg.norm(step):
        flags.append("sheared")
    return flags


def _without_padding_flag(volume: Volume) -> Volume:
    """Call the NaN of a DICOM volume what they are."""
    flags = tuple("padding" if flag == "non_finite" else flag for flag in volume.flags)
    return Volume(**{**vars(volume), "flags": flags, "_ranges": {}})
