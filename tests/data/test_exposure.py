"""Images that arrive nearly black, nearly white or in few levels are flagged, and no others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from movl_monai.data import ImageDataset, read_datalist
from movl_monai.data.decode import decode, exposure_flags, level_counts
from movl_monai.ingest.examine import Preprocessing
from tests.tables import read_rows

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
MARKED = np.where(np.arange(64 * 64).reshape(64, 64) < 30, 1.0, RAMP / 16)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (RAMP, []),
        (RAMP / 4, []),
        (1 - RAMP / 4, []),
        (RAMP / 6, ["nearly_black"]),
        (1 - RAMP / 6, ["nearly_white"]),
        (RAMP / 16, ["nearly_black", "few_levels"]),
        # a marker burned in does not hide it
        (MARKED, ["nearly_black", "few_levels"]),
        (0.5 + RAMP / 16, ["few_levels"]),
        (RAMP * 0 + 0.5, ["blank"]),
        (RAMP * 0, ["blank", "nearly_black"]),
    ],
)
def test_images_are_flagged_by_the_levels_in_use(image: np.ndarray, expected: list[str]) -> None:
    assert exposure_flags(level_counts((image * 255).round().astype(np.uint8))) == expected


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    """Class folders of 16-bit PNGs: two hold 12 bits in each class, three 16."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            top = 4095 if number < 2 else 65535
            levels = np.random.default_rng([number, ord(name)]).integers(0, top, (40, 40), dtype=np.uint16)
            Image.fromarray(levels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_training_says_how_many_images_arrive_dark(dark: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain = Preprocessing(image_size=16).build()
    datalist = read_datalist(dark, one_image_per_patient=True)
    with caplog.at_level(logging.WARNING):
        ImageDataset(datalist, chain, report=dark / "report.csv", progress=False)
    assert "Of 10 images the network sees: nearly_black 4, few_levels 4." in caplog.text
    flags = [row["flags"] for row in read_rows(dark / "report.csv")]
    assert flags.count("dark_16_bit nearly_black few_levels") == 4
    assert flags.count("") == 6


def test_the_range_that_is_given_makes_them_bright(dark: Path) -> None:
    chain: Callable = Preprocessing(image_size=40, value_range=(0, 4095)).build()
    decoded = decode({"image": str(dark / "a" / "0.png")}, chain)
    assert decoded.record["flags"] == []
    assert decoded.image is not None
    assert decoded.image.max() > 250


def test_real_images_are_not_flagged(test_data: Path) -> None:
    chain = Preprocessing().build()
    for folder in ("cxr_pneumonia", "dr_fundus", "kvasir_seg", "ct_contrast_dicom"):
        files = [
            path
            for path in sorted((test_data / "data" / folder).rglob("*"))
            if path.suffix in (".dcm", ".jpg", ".jpeg") and "masks" not in path.parts
        ]
        assert files
        for path in files[:: len(files) // 5]:
            assert decode({"image": str(path)}, chain).record["flags"] == []
