"""Data sets: find images, identify patients, split, and decode every image once."""

from movl_monai.data.datalist import Datalist
from movl_monai.data.dataset import FileOutcome, ImageDataset, SegmentationDataset, concatenate
from movl_monai.data.decode import ImageContractError
from movl_monai.data.ids import IdMap
from movl_monai.data.reading import read_datalist, read_mask_datalist, read_unlabelled

__all__ = [
    "Datalist",
    "FileOutcome",
    "IdMap",
    "ImageContractError",
    "ImageDataset",
    "SegmentationDataset",
    "concatenate",
    "read_datalist",
    "read_mask_datalist",
    "read_unlabelled",
]
