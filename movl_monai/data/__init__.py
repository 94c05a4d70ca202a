"""Data sets: find images, identify patients, split, and decode every image once.

Lists are read without torch: the names that need it are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from movl_monai.data.datalist import Datalist
from movl_monai.data.decode import ImageContractError
from movl_monai.data.ids import IdMap
from movl_monai.data.reading import read_datalist, read_mask_datalist, read_unlabelled

if TYPE_CHECKING:
    from movl_monai.data.dataset import FileOutcome, ImageDataset, SegmentationDataset, concatenate

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from movl_monai.data import dataset

    return getattr(dataset, name)
