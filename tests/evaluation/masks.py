"""Masks and data sets of masks, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from monai.transforms import Compose
from PIL import Image

from movl_monai.data import SegmentationDataset, read_mask_datalist
from movl_monai.transforms import LoadImageMaskd, QuantizeImaged, ResizeImaged, ResizeMaskd

__all__ = ["SIZE", "chain", "dataset", "write_images", "write_volumes"]

SIZE = 24


def chain(*, num_classes: int = 3, size: int = SIZE, **options: object) -> Compose:
    """The preprocessing of the bundle."""
    return Compose(
        [
            LoadImageMaskd(num_classes=num_classes, **options),  # type: ignore[arg-type]
            ResizeImaged("image", size),
            ResizeMaskd("mask", image_size=size, allow_missing_keys=True),
            QuantizeImaged("image"),
        ]
    )


def write_images(root: Path, *, splits: tuple[tuple[str, int], ...] = (("test", 5),), size: int = 32) -> Path:
    """Write PNG pairs whose brightness gives the class, 80 and 160 for the classes 1 and 2."""
    for split, count in splits:
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            generator = np.random.default_rng(100 * len(split) + number)
            mask = np.zeros((size, size + 8), dtype=np.uint8)
            top, left = generator.integers(2, size // 2, 2)
            mask[top : top + size // 3, left : left + size // 3] = 1
            mask[top + 2 : top + 6, left + 2 : left + 6] = 2
            image = mask * 80 + generator.integers(0, 20, mask.shape, dtype=np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


def write_volumes(root: Path, count: int = 3, *, affine: np.ndarray | None = None, slices: int = 4) -> Path:
    """Write NIfTI pairs with a block each of class 1 and 2."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng(number)
        mask = np.zeros((16, 20, slices), dtype=np.uint8)
        mask[3:9, 4 + number : 12, 1:] = 1
        mask[4:7, 6:10, -1:] = 2
        image = (mask * 80 + generator.integers(0, 20, mask.shape)).astype(np.int16)
        for kind, array in (("images", image), ("labels", mask)):
            place = np.diag([0.5, 1.0, 3.0, 1.0]) if affine is None else affine
            nib.save(nib.Nifti1Image(array, place), root / kind / f"v{number}.nii.gz")
    return root


def dataset(root: Path, **options: object) -> SegmentationDataset:
    """The decoded pairs; all are test cases unless the folders give a split."""
    datalist = read_mask_datalist(root, split_fractions=None, class_names=["background", "a", "b"], **options)  # type: ignore[arg-type]
    return SegmentationDataset(datalist, chain(), progress=False)
