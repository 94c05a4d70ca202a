"""Tiny trees of real files, and a stand-in for the preprocessing chain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

Item = dict[str, Any]


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """Write an 8 x 8 PNG at each relative path, different for each path; returns the root."""

    def make(paths: Iterable[str], root: str = "images") -> Path:
        for path in paths:
            target = tmp_path / root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            seed = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(target, format="PNG")
        return tmp_path / root

    return make


@pytest.fixture
def make_csv(make_images: Callable[..., Path]) -> Callable[..., Path]:
    """Write `manifest.csv` and the images that its first column names; returns the CSV."""

    def make(header: str, *rows: str, images: bool = True) -> Path:
        root = make_images([row.split(",")[0] for row in rows] if images else [])
        root.mkdir(exist_ok=True)
        (root / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
        return root / "manifest.csv"

    return make


@pytest.fixture
def make_dicom() -> Callable[..., Path]:
    """Write a small DICOM file of zeros."""

    def make(path: Path, *, frames: int = 1, pixels: bool = True, **tags: str) -> Path:
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        if pixels:
            dataset.Rows = dataset.Columns = 4
            dataset.PixelData = bytes(16 * frames)
            dataset["PixelData"].VR = "OB"
        if frames > 1:
            dataset.NumberOfFrames = frames
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


def read_png(item: Item) -> Item:
    """Stand-in for a preprocessing chain: a PNG as an image (3, 8, 8) on the grid k/255."""
    with Image.open(item["image"]) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB").resize((8, 8))))
    return item | {"image": pixels.permute(2, 0, 1).float() / 255}


@pytest.fixture
def transform() -> Callable[[Item], Item]:
    return read_png
