"""Geometry of the frames of a DICOM series: membership, order and regularity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import FileDataset

from movl_monai.readers.dicom.codes import modality_code
from movl_monai.readers.dicom.geometry import read_geometry
from movl_monai.readers.dicom.header import read_header
from movl_monai.readers.dicom.layout import frame_count
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.tags import code_string, functional_group, integer, number
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import Source

__all__ = [
    "IRREGULAR",
    "SAME_PLACE_MM",
    "SeriesSlice",
    "check_alike",
    "group_alike",
    "series_affine",
    "slice_thicknesses",
    "slices_of",
    "spacing_flags",
]

IRREGULAR = frozenset(("gap", "variable_spacing", "uneven_shift", "unknown_thickness"))
"""Flags of a series whose slices do not lie on one affine grid."""

SAME_PLACE_MM = 0.01
"""Positions closer than this are equal."""

_UNEVEN = 0.01  # of the usual distance
_GAP = 1.5  # usual distances
_MOST_ODD = 2  # a longer run of large distances is a wider spacing, not missing slices
_OFF_LINE = 0.1  # pixels: positions are written with few digits
_ALIKE = (1e-3, 1e-3)  # cosines; share of the pixel spacing


@dataclass(frozen=True, kw_only=True)
class SeriesSlice:
    """Place of one frame.

    Args:
        source: the file.
        frame: index of the frame in it.
        shape: rows and columns.
        spacing: between rows and between columns, in mm.
        position: center of the first pixel, in mm, LPS.
        orientation: ImageOrientationPatient.
        series: SeriesInstanceUID, which must not reach messages.
        modality: the code.
        thickness: stated slice distance in mm, for a single slice; None if the file does not state it.
    """

    source: Source
    frame: int
    shape: tuple[int, int]
    spacing: tuple[float, float]
    position: np.ndarray
    orientation: np.ndarray
    series: str
    modality: str
    thickness: float | None

    @property
    def normal(self) -> np.ndarray:
        """Direction of the slice order: the normal of the plane."""
        return np.cross(self.orientation[:3], self.orientation[3:])


def slices_of(source: Source, limits: Limits) -> list[SeriesSlice]:
    """Return the place of each frame of a file, from its header.

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


def _thickness(header: FileDataset) -> float | None:
    """Return the stated slice distance; only the affine of a single slice depends on it."""
    groups = (functional_group(header, "PixelMeasuresSequence", 0), header)
    keywords = ("SpacingBetweenSlices", "SliceThickness")
    stated = [number(group, keyword) for group in groups if group is not None for keyword in keywords]
    return next((value for value in stated if value is not None and value > 0), None)


def group_alike(
    exact: Sequence[Hashable], orientations: Sequence[Sequence[float]], spacings: Sequence[Sequence[float]]
) -> list[list[int]]:
    """Group frames that may be slices of one volume: equal keys, and orientations and spacings within a tolerance.

    Rounding at a boundary does not divide a series, and the result does not depend on the order of the frames.

    Args:
        exact: values of each frame that must be equal, such as series and size.
        orientations: six cosines of ImageOrientationPatient of each frame, with a tolerance of 0.001.
        spacings: distances of rows and of columns of each frame in mm, with a tolerance of 0.1 %.

    Returns:
        Indices of the frames of each group, in the order of the frames.

    Example:
        >>> group_alike("aaab", [[1, 0, 0, 0, 1, 0]] * 4, [[0.70499, 1], [0.70501, 1], [0.8, 1], [0.8, 1]])
        [[0, 1], [2], [3]]
    """
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(exact):
        by_key[key].append(index)
    values = np.hstack([np.reshape(orientations, (-1, 6)), np.reshape(spacings, (-1, 2))]).astype(float)
    groups: list[list[int]] = []
    for members in by_key.values():
        left = np.array(members)
        while len(left):
            # the reference does not depend on the order of the frames
            reference = min(values[left].tolist())
            bounds = np.array([_ALIKE[0]] * 6 + [_ALIKE[1] * abs(value) for value in reference[6:]])
            alike = (np.abs(values[left] - reference) <= bounds).all(axis=1)
            groups.append(left[alike].tolist())
            left = left[~alike]
    return sorted(groups)


def check_alike(found: Sequence[SeriesSlice]) -> None:
    """Refuse slices that differ in series, orientation, size or pixel spacing.

    Raises:
        MedicalImageError: ``bad_header``.
    """
    first = found[0]
    exact = [(part.series, part.shape) for part in found]
    orientations, spacings = [part.orientation.tolist() for part in found], [part.spacing for part in found]
    # all properties together, as a listing groups them: one alone may choose another reference slice
    if len(group_alike(exact, orientations, spacings)) > 1:
        _refuse_unlike(found)
    if not np.isclose(np.linalg.norm(first.normal), 1, atol=1e-2):
        raise MedicalImageError(
            "ImageOrientationPatient must hold two perpendicular directions of length 1; read the files as single"
            " images.",
            reason="bad_header",
        )


def _refuse_unlike(found: Sequence[SeriesSlice]) -> None:
    """Raise the error that names the first property in which the slices differ."""
    same, square, keys = [[0.0] * 6] * len(found), [[1.0] * 2] * len(found), [None] * len(found)
    divided = {
        "series": group_alike([part.series for part in found], same, square),
        "orientation": group_alike(keys, [part.orientation.tolist() for part in found], square),
        "size": group_alike([part.shape for part in found], same, square),
        "pixel spacing": group_alike(keys, same, [part.spacing for part in found]),
    }
    for what, groups in divided.items():
        if count := len(found) - len(groups[0]):
            raise MedicalImageError(
                f"Expected the slices of one volume, got {count} of {len(found)} with another {what} than the first;"
                " leave localizers out and read every series by itself.",
                reason="bad_header",
            )


def series_affine(kept: Sequence[SeriesSlice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the LPS affine from (column, row, slice), and the positions of the slices along the normal in mm.

    The affine has the mean distance of the slices.

    Reference:
        DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    first, last = kept[0], kept[-1]
    places = np.array([float((part.position - first.position) @ first.normal) for part in kept])
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    if len(kept) == 1:
        affine[:3, 2] = first.normal * (first.thickness or 1.0)
    else:
        affine[:3, 2] = (last.position - first.position) / (len(kept) - 1)
    affine[:3, 3] = first.position
    return affine, places


def slice_thicknesses(places: np.ndarray) -> np.ndarray:
    """Compute the thickness of each slice: half the distances to both neighbours along the normal.

    At a gap, where slices are missing, the other side's distance counts for both sides. An end slice has its only
    distance. A distance is a gap if it exceeds 1.5 times the median distance and 1.5 times the adjacent ones; more than
    two in a row are a wider spacing instead.

    Args:
        places: positions of at least two slices along the normal in mm, ascending.

    Example:
        >>> slice_thicknesses(np.array([0.0, 3, 6, 27, 30, 33]))
        array([3., 3., 3., 3., 3., 3.])
        >>> slice_thicknesses(np.array([0.0, 1, 3]))
        array([1. , 1.5, 2. ])
    """
    distances = np.diff(places)
    usual = float(np.median(distances))
    sides = np.where(_gaps(distances, usual), np.nan, distances)
    before, after = np.append(np.nan, sides), np.append(sides, np.nan)
    before, after = np.where(np.isnan(before), after, before), np.where(np.isnan(after), before, after)
    return np.nan_to_num((before + after) / 2, nan=usual)


def _gaps(distances: np.ndarray, usual: float) -> np.ndarray:
    """Return a mask of the distances that stand for missing slices."""
    large = distances > _GAP * usual
    found = np.zeros(len(distances), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], large.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        beside = [distances[index] for index in (start - 1, stop) if 0 <= index < len(distances)]
        is_run = stop - start <= _MOST_ODD
        found[start:stop] = is_run and distances[start:stop].min() > _GAP * max(beside, default=usual)
    return found


def spacing_flags(kept: Sequence[SeriesSlice], places: np.ndarray, affine: np.ndarray) -> list[str]:
    """Return the flags that apply: ``gap``, ``variable_spacing``, ``sheared``, ``uneven_shift``, ``unknown_thickness``.

    Args:
        kept: the slices, sorted, one per position.
        places: positions along the normal, in mm.
        affine: from :func:`series_affine`.
    """
    if len(kept) == 1:
        return ["unknown_thickness"] if kept[0].thickness is None else []
    distances = np.diff(places)
    usual = float(np.median(distances))
    flags = []
    if distances.max() > _GAP * usual:
        flags.append("gap")
    if np.abs(distances - usual).max() > max(_UNEVEN * usual, SAME_PLACE_MM):
        flags.append("variable_spacing")
    step = affine[:3, 2]
    if float(step @ kept[0].normal) < np.cos(np.radians(1)) * np.linalg.norm(step):
        flags.append("sheared")
    if _drift(kept, places, step) > _OFF_LINE * min(kept[0].spacing):
        flags.append("uneven_shift")
    return flags


def _drift(kept: Sequence[SeriesSlice], places: np.ndarray, step: np.ndarray) -> float:
    """Return the largest in-plane distance of a slice from the line through the first and the last slice."""
    along = step / float(step @ kept[0].normal)
    positions = np.array([part.position - kept[0].position for part in kept])
    return float(np.linalg.norm(positions - places[:, None] * along, axis=1).max())
