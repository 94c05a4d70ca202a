"""The format comes from the bytes, and only from regular files that have some."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from movl_monai.readers.files import sniff_format
from tests.readers.refusals import refused

VOLUME = np.zeros((3, 4, 5), dtype=np.int16)


def pillow_bytes(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, format=name)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "bmp", "webp", "gif"])
def test_sniff_format_knows_what_pillow_writes_under_a_wrong_suffix(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(pillow_bytes(name))
    assert sniff_format(path) == name


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_sniff_format_knows_single_file_nifti(image_class: type, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"volume.{suffix}"
    nib.save(image_class(VOLUME, np.eye(4)), path)
    assert sniff_format(path.rename(tmp_path / "volume.png")) == "nifti"


def test_sniff_format_knows_a_big_endian_nifti() -> None:
    image = nib.Nifti1Image(VOLUME, np.eye(4), nib.Nifti1Header(endianness=">"))
    assert sniff_format(io.BytesIO(image.to_bytes())) == "nifti"


@pytest.mark.parametrize("image_class", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_sniff_format_tells_the_header_of_a_nifti_pair(image_class: type, tmp_path: Path) -> None:
    nib.save(image_class(VOLUME, np.eye(4)), tmp_path / "volume.hdr")
    assert sniff_format(tmp_path / "volume.hdr") == "nifti_pair"


@pytest.mark.parametrize("name", ["CT_small.dcm", "ExplVR_BigEnd.dcm", "rtdose_expb.dcm", "DICOMDIR"])
def test_sniff_format_knows_dicom_files(name: str) -> None:
    assert sniff_format(get_testdata_file(name, download=False)) == "dicom"


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_sniff_format_knows_a_bare_data_set_in_every_encoding(implicit: bool, little: bool) -> None:
    dataset = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    if not little:
        del dataset.PixelData
    pydicom.filewriter.write_dataset(buffer, dataset)
    assert sniff_format(io.BytesIO(buffer.getvalue())) == "dicom"


@pytest.mark.parametrize(
    "content",
    [
        b"path,label\nimage.png,1\n",
        b"BMI and age of the patients, one a line",
        b"\x08\x00\x08\x00 a text that starts like a tag",
        b"\x1f\x8b\x08 not gzip",
        gzip.compress(b"a text", mtime=0),
        b"\x80\x04\x95 a pickle",
        bytes(348),
        b"\x00",
    ],
)
def test_sniff_format_calls_everything_else_unknown(content: bytes) -> None:
    assert sniff_format(io.BytesIO(content)) == "unknown"


def test_sniff_format_reads_only_the_beginning_of_a_gzip_bomb() -> None:
    class Counting(io.BytesIO):
        bytes_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.bytes_read += len(data)
            return data

    header = nib.Nifti1Image(VOLUME, np.eye(4)).to_bytes()[:352]
    file = Counting(gzip.compress(header + bytes(20_000_000)))
    assert sniff_format(file) == "nifti"
    assert file.bytes_read <= 1024
    assert file.tell() == 0


def test_sniff_format_refuses_a_pipe_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    with refused("not_regular_file", "regular file, got a pipe"):
        sniff_format(tmp_path / "pipe.dcm")


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/does/not/exist", "a\0b"])
def test_sniff_format_refuses_devices_folders_and_missing_files_without_naming_them(path: str) -> None:
    with refused("not_regular_file", "Expected") as caught:
        sniff_format(path)
    assert "exist;" not in str(caught.value)
    assert path not in str(caught.value).replace("/socket", "") or path == "/"


def test_sniff_format_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.dcm").touch()
    with refused("empty_file", "0 bytes"):
        sniff_format(tmp_path / "empty.dcm")
