"""Where the frames of a DICOM series lie: whether they belong together, in what order, and how regularly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from movl_monai.transforms.dicom.geometry import read_geometry
from movl_monai.transforms.dicom.header import read_header
from movl_monai.transforms.dicom.layout import frame_count
from movl_monai.transforms.dicom.limits import Limits
from movl_monai.transforms.dicom.record import modality_code
from movl_monai.transforms.dicom.tags import code_string, integer, number
from movl_monai.transforms.errors import MedicalImageError
from movl_monai.transforms.files import Source
from pydicom import FileDataset

__all__ = ["SAME_PLACE_MM", "SeriesSlice", "check_alike", "series_affine", "slices_of", "spacing_flags"]

SAME_PLACE_MM = 0.01
"""Positions that are nearer than this are the same."""

_UNEVEN = 0.01  # of the usual distance


@dataclass(frozen=True, kw_only=True)
class SeriesSlice:
    """Where one frame lies.

    Args:
        source: the file.
        frame: index of the frame in it.
        shape: rows and columns.
        spacing: between rows and between columns, in mm.
        position: center of the first pixel, in mm, LPS.
        orientation: ImageOrientationPatient.
        series: SeriesInstanceUID, which must not reach messages.
        modality: the code.
        thickness: distance to the next slice where there is none, in mm.
    """

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
        """Direction along which slices are sorted."""
        return np.cross(self.orientation[:3], self.orientation[3:])


def slices_of(source: Source, limits: Limits) -> list[SeriesSlice]:
    """Return where the frames of a file lie, from its header.

    Raises:
        MedicalImageError: ``missing_tag`` without position, orientation or spacing; ``too_large``; ``bad_header``.
    """
    header = read_header(source, limits=limits)
    count = frame_count(header)
    if count > limits.frames:
        raise MedicalImageError(f"Expected at most {limits.frames} frames, got {count}.", reason="too_large")
    return [_slice(source, header, frame) for frame in range(count)]


def _slice(source: Source, header: FileDataset, frame: int) -> SeriesSlice:
    geometry = read_geometry(header, frame=frame)
    if geometry.position is None or geometry.orientation is None or geometry.spacing is None:
        raise MedicalImageError(
            "Expected ImagePositionPatient, ImageOrientationPatient and PixelSpacing in every file of a volume, one"
            " lacks them; read the files as single images.",
            reason="missing_tag",
        )
    return SeriesSlice(
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


def check_alike(found: Sequence[SeriesSlice]) -> None:
    """Refuse slices that are not of one series, orientation, size and pixel spacing.

    Raises:
        MedicalImageError: ``bad_header``.
    """
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


def series_affine(kept: Sequence[SeriesSlice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the LPS affine from (column, row, slice), and the slices' places along the normal in mm.

    The distance of the slices is the mean one.

    Reference:
        DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
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


def spacing_flags(kept: Sequence[SeriesSlice], places: np.ndarray, affine: np.ndarray) -> list[str]:
    """Return ``gap``, ``variable_spacing`` and ``sheared`` where they apply.

    Args:
        kept: the slices, sorted, one for each position.
        places: along the normal, in mm.
        affine: of :func:`series_affine`.
    """
    if len(kept) == 1:
        return []
    distances = np.diff(places)
    usual = float(np.median(distances))
    flags = []
    if distances.max() > 1.5 * usual:
        flags.append("gap")
    if np.abs(distances - usual).max() > max(_UNEVEN * usual, SAME_PLACE_MM):
        flags.append("variable_spacing")
    step = affine[:3, 2]
    if float(step @ kept[0].normal) < np.cos(np.radians(1)) * np.linalg.norm(step):
        flags.append("sheared")
    return flags
