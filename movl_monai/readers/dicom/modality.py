"""Modality transformation from stored values to values in their unit: Modality LUT, or slope and intercept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.uid import XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.lut import LookupTable, is_empty_lut, read_lut
from movl_monai.readers.dicom.tags import code_string, functional_group, items, number, uid
from movl_monai.readers.errors import MedicalImageError

__all__ = ["Modality", "read_modality"]


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Modality transformation of one frame: a table, or ``slope * stored + intercept``.

    Args:
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        unit: RescaleType ("HU"), "" if it is not stated.
        lut: the table, which replaces slope and intercept.
        is_stated: whether the file states a transformation.
    """

    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    lut: LookupTable | None = None
    is_stated: bool = False

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Return the values in their unit: float32 if that is exact, else float64."""
        if self.lut is not None:
            return self.lut(stored).astype(np.float32)
        values = stored.astype(np.float32 if self._fits_float32(stored.dtype) else np.float64)
        if self.slope != 1:
            np.multiply(values, self.slope, out=values)
        if self.intercept != 0:
            np.add(values, self.intercept, out=values)
        return values

    def range(self, layout: PixelLayout) -> tuple[float, float]:
        """Return the smallest and largest value of the stored bits, or of the depth of the table."""
        if self.lut is not None:
            return 0.0, float(self.lut.white)
        ends = [self.slope * end + self.intercept for end in layout.stored_range]
        return min(ends), max(ends)

    def _fits_float32(self, dtype: np.dtype) -> bool:
        if dtype == np.float32:
            return self.slope == 1 and self.intercept == 0
        whole = self.slope == int(self.slope) and self.intercept == int(self.intercept)
        largest = 2**16 * abs(self.slope) + abs(self.intercept)
        return dtype.itemsize <= 2 and whole and largest < 2**24


def read_modality(header: FileDataset, layout: PixelLayout, frame: int, flags: Flags) -> Modality:
    """Read the modality transformation of a frame; functional groups take precedence over the tags of the whole file.

    Args:
        header: header of the file.
        layout: of the pixel data.
        frame: index of the frame, from 0.
        flags: receives missing and empty tags replaced by defaults.

    Raises:
        MedicalImageError: if RescaleSlope is 0, or the Modality LUT is damaged (``reason="bad_rescale"``).

    Reference:
        DICOM PS3.3 C.11.1 and C.7.6.16.2.9.
    """
    group = functional_group(header, "PixelValueTransformationSequence", frame)
    if group is not None and any(tag in group for tag in ("RescaleSlope", "RescaleIntercept")):
        return _rescale(group, flags)
    has_transformation = any(tag in header for tag in ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"))
    if has_transformation and _gives_x_ray_intensity(header):
        flags.add("modality_lut_not_for_display")
        return Modality()
    stated = items(header, "ModalityLUTSequence", flags)
    tables = [item for item in stated if not is_empty_lut(item)]
    if len(tables) < len(stated):
        flags.add("empty", "ModalityLUTSequence")
    if tables:
        lut = read_lut(tables[0], highest_input=layout.stored_range[1], flags=flags, reason="bad_rescale")
        return Modality(lut=lut, unit=code_string(tables[0], "ModalityLUTType"), is_stated=True)
    return _rescale(header, flags)


def _rescale(dataset: Dataset, flags: Flags) -> Modality:
    slope = number(dataset, "RescaleSlope", flags)
    intercept = number(dataset, "RescaleIntercept", flags)
    if slope == 0:
        raise MedicalImageError(
            "RescaleSlope must not be 0, which makes every pixel the same; correct the tag or leave the file out.",
            reason="bad_rescale",
        )
    if (slope is None) != (intercept is None):
        flags.add("inferred", "RescaleSlope" if slope is None else "RescaleIntercept")
    return Modality(
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        unit=code_string(dataset, "RescaleType"),
        is_stated=slope is not None or intercept is not None,
    )


def _gives_x_ray_intensity(header: FileDataset) -> bool:
    """Return True if the transformation leads from display values back to X-ray intensity, PS3.3 C.8.7.1.1.2.

    As in dcmtk, it is then left out for these classes, whatever PixelIntensityRelationship states.
    """
    return uid(header, "SOPClassUID") in (XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage)
