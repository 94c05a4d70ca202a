"""Data sets: find images, identify patients, split, and decode every image once.

Lists are read without torch: the names that need it are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from movl_monai.data.datalist import Datalist
from movl_monai.data.decode import ImageContractError
from movl_monai.data.ids import IdMap
from movl_monai.data.reading import read_datalist, read_mask_datalist, read_unlabelled
from movl_monai.data.units import Units
from movl_monai.lazy import lazy_names

if TYPE_CHECKING:
    from movl_monai.data.dataset import FileOutcome, ImageDataset, SegmentationDataset, concatenate, select_images
    from movl_monai.data.unit_dataset import UnitDataset, decode_images

__all__ = [
    "Datalist",
    "FileOutcome",
    "IdMap",
    "ImageContractError",
    "ImageDataset",
    "SegmentationDataset",
    "UnitDataset",
    "Units",
    "concatenate",
    "decode_images",
    "read_datalist",
    "read_mask_datalist",
    "read_unlabelled",
    "select_images",
]


__getattr__ = lazy_names(
    __name__,
    dict.fromkeys(("FileOutcome", "ImageDataset", "SegmentationDataset", "concatenate", "select_images"), "dataset")
    | dict.fromkeys(("UnitDataset", "decode_images"), "unit_dataset"),
)
