"""Read DICOM files as images: decode, modality, padding, VOI, polarity, three channels."""

from movl_monai.transforms.dicom.flags import FLAGS
from movl_monai.transforms.dicom.frame import ModalityFrame, StoredFrame, modality_values, stored_values
from movl_monai.transforms.dicom.geometry import Geometry, read_geometry
from movl_monai.transforms.dicom.header import read_header
from movl_monai.transforms.dicom.layout import frame_count
from movl_monai.transforms.dicom.limits import Limits
from movl_monai.transforms.dicom.reader import read_dicom
from movl_monai.transforms.dicom.scan import HeaderScan, scan_header
from movl_monai.transforms.dicom.source import is_dicom

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
