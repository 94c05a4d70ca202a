"""Read DICOM files as images: decode, modality, padding, VOI, polarity, three channels."""

from movl_monai.transforms.dicom.limits import Limits
from movl_monai.transforms.dicom.reader import read_dicom

__all__ = ["Limits", "read_dicom"]
