"""Secondary capture of a picture for human readers, in the study of its source."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from movl_monai.predict.dicom.origin import (
    MANUFACTURER,
    RESEARCH_USE,
    Origin,
    Stamp,
    deriving,
    finish,
    orientation,
    prepared,
)
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.tags import values

__all__ = ["secondary_capture"]

# still true of a derived image: lossy compression is permanent (PS3.3 C.7.6.1.1.5), and visible features stay visible
_KEPT = {
    "LossyImageCompression": "00|01",
    "LossyImageCompressionRatio": r"\d+(\.\d+)?",
    "LossyImageCompressionMethod": r"ISO_\d{5}_\d{1,2}",
    "BurnedInAnnotation": "YES|NO",
    "RecognizableVisualFeatures": "YES|NO",
}
"""Attributes and the pattern of their defined terms, so that no other text of the source is copied."""


@quiet()
def secondary_capture(
    pixels: np.ndarray,
    source: Dataset,
    *,
    origin: Origin,
    stamp: Stamp,
    frame: int | None = None,
    instance_number: int = 1,
) -> Any:
    """Make a secondary capture of a picture that was drawn on an image.

    The drawn text does not identify the patient, so BurnedInAnnotation is copied from the source. Pixels are derived
    and no spacing is stated: measure on the source.

    Args:
        pixels: uint8 (H, W, 3).
        source: header of the image.
        origin: network that made the prediction.
        stamp: time of creation.
        frame: index of the frame of a multi-frame image, from 0; None for other images.
        instance_number: number in the series.

    Returns:
        a `highdicom.sc.SCImage`.

    Raises:
        DicomOutputError: if the source lacks values that a capture needs.

    Reference:
        DICOM PS3.3 A.8.1 (Secondary Capture Image IOD), C.7.6.1.1.2 (Image Type), C.12.4 (SOP instance reference).
    """
    header = prepared(source)
    instance = str(header.SOPInstanceUID)
    capture: Any
    with deriving("secondary capture", "a value of it is not as the standard wants it. Ask for png instead."):
        capture = SCImage(
            pixel_array=np.ascontiguousarray(pixels),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=str(header.StudyInstanceUID),
            series_instance_uid=origin.uid("sc series", str(header.SeriesInstanceUID)),
            series_number=stamp.series_number(header),
            sop_instance_uid=origin.uid("sc", instance, str(frame)),
            instance_number=instance_number,
            manufacturer=MANUFACTURER,
            **dict.fromkeys(("patient_id", "patient_name", "patient_birth_date", "patient_sex")),
            **dict.fromkeys(("accession_number", "study_id", "study_date", "study_time")),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    # copied although rows of text were added below: the picture is for viewing
    capture.PatientOrientation = orientation(header)
    side = str(header.get("Laterality") or header.get("ImageLaterality") or "")
    capture.Laterality = side if side in ("L", "R") else ""
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.ConversionType = "WSD"
    capture.ManufacturerModelName = origin.name[:64]
    capture.SoftwareVersions = origin.software
    capture.DerivationDescription = f"{origin.name} {origin.version}: drawn on the source. {RESEARCH_USE}"[:1024]
    capture.SourceImageSequence = [_reference(header, frame)]
    for keyword, form in _KEPT.items():
        stated = values(header, keyword)
        if stated and all(re.fullmatch(form, str(value).strip()) for value in stated):
            setattr(capture, keyword, header[keyword].value)
    for keyword in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        setattr(capture, keyword, stamp.time.strftime("%Y%m%d" if keyword.startswith("D") else "%H%M%S"))
    return finish(capture, stamp, source, description="Overlay, research use only")


def _reference(header: Dataset, frame: int | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
