"""Transforms of one sample, without learnable state and without knowledge of a network.

Each is a verb with a dictionary twin (`ResizeImage`, `ResizeImaged`). A preprocessing chain starts with
`LoadMedicalImaged` and ends with `QuantizeImaged`. Its output is an image: float32 (3, H, W) in [0, 1].
"""

from movl_monai.readers import (
    HU_PRESETS,
    REASONS,
    Limits,
    MedicalImageError,
    Volume,
    choose_slices,
    mask_classes,
    raster_frame_count,
    read_dicom,
    read_dicom_volume,
    read_label_map,
    read_mask_volume,
    read_nifti,
    read_nifti_slice,
    read_raster,
    read_segmentation,
    read_segmentation_volume,
    read_volume,
    slice_count,
    slice_image,
    slices_to_volume,
    sniff_format,
    take_slice,
)
from movl_monai.transforms.augment import RandomAugmentImage, RandomAugmentImaged
from movl_monai.transforms.canonical import CanonicalSlices, CanonicalSlicesd
from movl_monai.transforms.color import MatchColorStatistics, MatchColorStatisticsd
from movl_monai.transforms.load import LoadMedicalImage, LoadMedicalImaged, MedicalImageReader
from movl_monai.transforms.load_mask import LoadSegmentation, LoadSegmentationd
from movl_monai.transforms.load_pair import LoadImageMask, LoadImageMaskd
from movl_monai.transforms.resize import (
    QuantizeImage,
    QuantizeImaged,
    ResizeImage,
    ResizeImaged,
    image_to_uint8,
    uint8_to_image,
)
from movl_monai.transforms.resize_mask import ResizeMask, ResizeMaskd, resize_back
from movl_monai.transforms.windows import ApplyVOIWindow, ApplyVOIWindowd, HUWindows, HUWindowsd

__all__ = [
    "HU_PRESETS",
    "REASONS",
    "ApplyVOIWindow",
    "ApplyVOIWindowd",
    "CanonicalSlices",
    "CanonicalSlicesd",
    "HUWindows",
    "HUWindowsd",
    "Limits",
    "LoadImageMask",
    "LoadImageMaskd",
    "LoadMedicalImage",
    "LoadMedicalImaged",
    "LoadSegmentation",
    "LoadSegmentationd",
    "MatchColorStatistics",
    "MatchColorStatisticsd",
    "MedicalImageError",
    "MedicalImageReader",
    "QuantizeImage",
    "QuantizeImaged",
    "RandomAugmentImage",
    "RandomAugmentImaged",
    "ResizeImage",
    "ResizeImaged",
    "ResizeMask",
    "ResizeMaskd",
    "Volume",
    "choose_slices",
    "image_to_uint8",
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
    "resize_back",
    "slice_count",
    "slice_image",
    "slices_to_volume",
    "sniff_format",
    "take_slice",
    "uint8_to_image",
]
