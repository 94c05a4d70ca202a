"""Read clinical images: DICOM, NIfTI and pictures as arrays, volumes and masks, or an error with a reason code.

The readers know neither configs nor networks. The transforms of `movl_monai.transforms` are built on them.
"""

from movl_monai.readers.dicom import Limits, read_dicom
from movl_monai.readers.errors import REASONS, MedicalImageError
from movl_monai.readers.files import sniff_format
from movl_monai.readers.label_map import mask_classes, read_label_map
from movl_monai.readers.masks import read_segmentation, read_segmentation_volume
from movl_monai.readers.nifti import read_nifti, read_nifti_slice, slice_count
from movl_monai.readers.raster import raster_frame_count, read_raster
from movl_monai.readers.slices import Volume, choose_slices, slice_image, slices_to_volume, take_slice
from movl_monai.readers.volume import read_dicom_volume, read_mask_volume, read_volume
from movl_monai.readers.windows import HU_PRESETS

__all__ = [
    "HU_PRESETS",
    "REASONS",
    "Limits",
    "MedicalImageError",
    "Volume",
    "choose_slices",
    "mask_classes",
    "raster_frame_count",
    "read_dicom",
    "read_dicom_volume",
    "read_label_map",
    "read_mask_volume",
    "read_nifti",
    "read_nifti_slice",
    "read_raster",
    "read_segmentation",
    "read_segmentation_volume",
    "read_volume",
    "slice_count",
    "slice_image",
    "slices_to_volume",
    "sniff_format",
    "take_slice",
]
