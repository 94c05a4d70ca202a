"""The readers that are timed against each other read the same values, and missing ones are reported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from benchmarks.dicom_speed import (
    COMPRESSED,
    compressed_slice,
    native_slice,
    readers_of,
    scan_with_pydicom,
    shipped_files,
    write_scan_files,
)
from movl_monai.readers.dicom import scan_header, stored_values

SIZE = 64


@pytest.mark.parametrize("codec", COMPRESSED)
def test_every_codec_holds_the_native_picture(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    compressed_slice(codec, SIZE).save_as(path, enforce_file_format=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == COMPRESSED[codec]
    np.testing.assert_array_equal(stored_values(path).values, native_slice(SIZE).pixel_array)


@pytest.mark.parametrize("codec", ["native", *COMPRESSED])
def test_all_readers_see_the_same_values(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    dataset = native_slice(SIZE) if codec == "native" else compressed_slice(codec, SIZE)
    dataset.save_as(path, enforce_file_format=True)
    stored = native_slice(SIZE).pixel_array
    hu = stored.astype(np.float64) - 1024
    readers = readers_of(path)
    images = {name: np.squeeze(np.asarray(reader(path))) for name, reader in readers.items()}
    assert images["ours"].shape == (3, SIZE, SIZE)
    np.testing.assert_array_equal(images["simpleitk"], hu)
    # pydicom rescales only when asked to; MONAI's axes are (columns, rows)
    if codec != "jpeg_lossless":
        np.testing.assert_array_equal(images["pydicom"], stored)
        np.testing.assert_array_equal(images["monai_pydicom"].T, hu)
    if "monai_itk" in images:
        np.testing.assert_array_equal(images["monai_itk"].T, hu)


def test_readers_that_cannot_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "slice.dcm"
    compressed_slice("jpeg_lossless", SIZE).save_as(path, enforce_file_format=True)
    readers = readers_of(path)
    printed = capsys.readouterr().out
    assert {"pydicom", "monai_pydicom"} & readers.keys() == set()
    assert "pydicom does not read this transfer syntax here (RuntimeError)" in printed
    is_installed = importlib.util.find_spec("itk") is not None
    assert ("itk is not installed" in printed) == (not is_installed)
    assert ("monai_itk" in readers) == (is_installed and "left out" not in printed)


def test_the_slices_have_usual_headers_and_differ(tmp_path: Path) -> None:
    paths = write_scan_files(tmp_path, 3, 16)
    headers = scan_with_pydicom(paths)
    assert all(80 < len(header) < 200 for header in headers)
    scans = [scan_header(path) for path in paths]
    assert len({scan.instance for scan in scans}) == 3
    assert [scan.frames[0].position for scan in scans] == [(-180.0, -180.0, float(z)) for z in range(3)]


def test_both_read_the_same_files_to_the_same_values() -> None:
    files = shipped_files()
    assert len(files) > 150
    for path, header in zip(files, scan_with_pydicom(files), strict=True):
        assert scan_header(path).shape == (header.get("Rows") or 0, header.get("Columns") or 0)
