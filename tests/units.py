"""Patients with one to three images, of which some of a positive patient show a bright square."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = (("train", "id", 8), ("val", "id", 6), ("test", "id", 6), ("test", "scanner_b", 4))


def write_units(folder: Path, *, size: int = 64) -> Path:
    """Write the images and `manifest.csv`; every other patient is positive. Returns the folder."""
    rng, rows, number = np.random.default_rng(0), [], 0
    folder.mkdir(parents=True, exist_ok=True)
    for split, domain, count in PARTS:
        for _ in range(count):
            number += 1
            for place in range(1 + number % 3):
                pixels = rng.integers(0, 90, (size, size), dtype=np.uint8)
                if number % 2 and place == 0:
                    pixels[16:48, 16:48] += 120
                name = f"p{number}_{place}.png"
                Image.fromarray(pixels).save(folder / name)
                label = ("absent", "present")[number % 2]
                rows.append([name, label, f"DOE^{number}", split, domain])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "patient_id", "split", "domain"], *rows])
    return folder
