"""Headers of real and phantom images, and the validator of dicom3tools."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from movl_monai.phantom import write_phantom
from movl_monai.predict.dicom import Origin, Stamp, as_bytes

ORIGIN = Origin(name="movl_classification", version="1.2.3", fingerprint="ab" * 32, checkpoint_sha256="cd" * 32)
STAMP = Stamp(seconds=1_700_000_000, series_offset=901)


@pytest.fixture(scope="session")
def dciodvfy() -> Callable[[Path], list[str]]:
    """Return the errors that `dciodvfy -new` finds in a file; without the program, skip the test with a reason."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools): validity is not checked")

    def errors(path: Path) -> list[str]:
        done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        # it also says what kind of object it took the file for
        assert any(not line.startswith(("Error", "Warning")) for line in lines), lines
        return [line for line in lines if line.startswith("Error")]

    return errors


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Any], Path]:
    """Write an object to a file."""

    def write(dataset: Any) -> Path:
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        path.write_bytes(as_bytes(dataset))
        return path

    return write


@pytest.fixture(scope="session")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The header of a radiograph of the phantom."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=(0, 0, 1, 0), images_per_patient=1, size=64)
    return dcmread(next(folder.rglob("*.dcm")), stop_before_pixels=True)


def headers(folder: Path) -> list[Dataset]:
    return [dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
