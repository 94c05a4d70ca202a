"""Read DICOM files as images: decode, modality, padding, VOI, polarity, three channels."""

from movl_monai.readers.dicom.flags import FLAGS
from movl_monai.readers.dicom.frame import ModalityFrame, StoredFrame, modality_values, stored_values
from movl_monai.readers.dicom.geometry import Geometry, read_geometry
from movl_monai.readers.dicom.header import is_dicom, read_header
from movl_monai.readers.dicom.layout import frame_count
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.reader import read_dicom
from movl_monai.readers.dicom.scan import HeaderScan, scan_header

__all__ = [
    "FLAGS",
    "Geometry",
    "HeaderScan",
    "Limits",
    "ModalityFrame",
    "StoredFrame",
    "frame_count",
    "is_dicom",
    "modality_values",
    "read_dicom",
    "read_geometry",
    "read_header",
    "scan_header",
    "stored_values",
]
