"""Small folders of real files: DICOM slices that lie somewhere, PNGs, NIfTI, junk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage, generate_uid

from movl_monai.data.ids import Salter
from movl_monai.ingest.examine import Examine, Preprocessing
from movl_monai.ingest.journal import Journal, add_files, read_files
from movl_monai.ingest.volumes import place_frames
from tests.readers.dicom.objects import as_file, grey_object

SALT = b"0123456789abcdef"
SMALL = Preprocessing(image_size=16)

MakeSlice = Callable[..., Path]
MakePng = Callable[..., Path]


@pytest.fixture
def make_slice() -> MakeSlice:
    """Return a function that writes a CT slice of a series.

    `series`, `z` and `patient` set its place, and `seed` draws its pixels.
    """

    def make(
        path: Path,
        *,
        z: float | None = 0.0,
        series: str = "a",
        patient: str = "p",
        seed: int = 0,
        size: int = 12,
        shift: float = 0.0,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        **tags: Any,
    ) -> Path:
        stored = np.random.default_rng(seed).integers(900, 1200, (size, size), dtype=np.uint16)
        placed: dict[str, Any] = {}
        if z is not None:
            normal = np.cross(orientation[:3], orientation[3:])
            placed["ImagePositionPatient"] = [*(z * normal + [0.0, shift, 0.0]).round(4).tolist()]
            placed["ImageOrientationPatient"] = list(orientation)
        defaults = {"PixelSpacing": [1.0, 1.0], "RescaleSlope": 1, "RescaleIntercept": -1024, "PatientID": patient}
        dataset = grey_object(
            stored,
            sop_class=CTImageStorage,
            modality="CT",
            StudyInstanceUID=generate_uid(entropy_srcs=["study", patient]),
            **{"SeriesInstanceUID": generate_uid(entropy_srcs=["series", series]), **defaults, **placed, **tags},
        )
        if "SOPInstanceUID" not in tags:
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
        path.parent.mkdir(parents=True, exist_ok=True)
        as_file(dataset, path)
        return path

    return make


@pytest.fixture
def make_png() -> MakePng:
    """Write a PNG whose pixels a seed draws."""

    def make(path: Path, *, seed: int = 0, size: int = 20) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG")
        return path

    return make


def read_folder(root: Path, path: Path | None = None, *, pixels: bool = True, label: str | None = None) -> Journal:
    """Read a folder into a journal that is still open, with the frames put into their places."""
    journal = Journal(path, settings=f"test {pixels} {label}")
    salter = Salter(SALT)
    total = add_files(journal, root, salter, ignore=())
    transform = SMALL.build() if pixels else None
    examine = Examine(root=root, salter=salter, transform=transform, label=label)
    read_files(journal, examine, total=total, num_workers=0, progress=False)
    place_frames(journal, salter)
    return journal
