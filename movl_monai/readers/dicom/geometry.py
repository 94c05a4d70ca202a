"""Geometry of a frame: pixel spacing, position and orientation in the patient."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset, FileDataset

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.tags import functional_group, numbers

__all__ = ["Geometry", "read_geometry"]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Geometry of a frame; fields that the file does not state are None.

    Args:
        spacing: distance in mm from one row to the next, and from one column to the next.
        position: centre of the first pixel in mm, LPS.
        orientation: direction along the rows, then along the columns; six cosines, LPS.
    """

    spacing: tuple[float, float] | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None


def read_geometry(header: FileDataset, *, frame: int = 0, flags: Flags | None = None) -> Geometry:
    """Read the geometry of a frame; functional groups take precedence over the tags of the whole file.

    Args:
        header: header of the file.
        frame: index of the frame, from 0.
        flags: receives empty and damaged tags.

    Reference:
        DICOM PS3.3 C.7.6.2, C.7.6.16.2.1, C.7.6.16.2.3 and C.7.6.16.2.4.
    """

    def group(keyword: str) -> Dataset:
        return functional_group(header, keyword, frame) or header

    flags = Flags() if flags is None else flags
    position = numbers(group("PlanePositionSequence"), "ImagePositionPatient", flags)
    orientation = numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient", flags)
    return Geometry(
        spacing=_spacing(group("PixelMeasuresSequence"), header, flags),
        position=tuple(position) if len(position) == 3 else None,
        orientation=tuple(orientation) if len(orientation) == 6 else None,
    )


def _spacing(measures: Dataset, header: FileDataset, flags: Flags) -> tuple[float, float] | None:
    candidates = [(measures, "PixelSpacing"), (header, "ImagerPixelSpacing"), (header, "NominalScannedPixelSpacing")]
    for dataset, keyword in candidates:
        spacing = numbers(dataset, keyword, flags)
        if len(spacing) == 2 and min(spacing) > 0:
            if keyword != "PixelSpacing":
                flags.add("imager_pixel_spacing")
            return spacing[0], spacing[1]
        if spacing:
            flags.add("invalid", keyword)
    return None
