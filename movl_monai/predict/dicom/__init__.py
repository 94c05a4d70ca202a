"""DICOM objects for predictions: structured report, segmentation, secondary capture.

All are derived from the source images. Patient and study are copied, UIDs and series are new, nothing is verified, and
each object says that it is for research only.
"""

from .capture import draw_classes, draw_text, secondary_capture
from .origin import DicomOutputError, Origin, Stamp, as_bytes, check_source
from .report import ClassCodes, ImageFinding, classification_report, read_classification_report
from .segmentation import segmentation_object

__all__ = [
    "ClassCodes",
    "DicomOutputError",
    "ImageFinding",
    "Origin",
    "Stamp",
    "as_bytes",
    "check_source",
    "classification_report",
    "draw_classes",
    "draw_text",
    "read_classification_report",
    "secondary_capture",
    "segmentation_object",
]
