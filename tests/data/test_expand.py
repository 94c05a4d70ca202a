"""Additions of the headers to a list: frames, patients of DICOM files, and files that are no images."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from movl_monai.data.entries import Entry, FileHeader, Listing
from movl_monai.data.expand import expand, read_header

MakeDicom = Callable[..., Path]


def dicom_listing(folder: Path, domain: str = "id") -> Listing:
    return Listing([Entry(path, path.name, label="a", domain=domain) for path in sorted(folder.iterdir())])


def test_patients_come_from_dicom_headers(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for index, patient in enumerate(["1", "2", "1"]):
        make_dicom(tmp_path / f"{index}.dcm", PatientID=patient)
    assert [entry.patient for entry in expand(dicom_listing(tmp_path)).entries] == ["|1", "|2", "|1"]


@pytest.mark.parametrize("patient", ["", "ANONYMOUS"])
def test_an_empty_or_constant_patient_id_names_no_patients(make_dicom: MakeDicom, tmp_path: Path, patient: str) -> None:
    for index in range(3):
        make_dicom(tmp_path / f"{index}.dcm", PatientID=patient)
    assert {entry.patient for entry in expand(dicom_listing(tmp_path)).entries} == {None}


def test_headers_are_not_asked_for_patients_when_told(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for index in range(2):
        make_dicom(tmp_path / f"{index}.dcm", PatientID=str(index))
    assert {entry.patient for entry in expand(dicom_listing(tmp_path), patients=False).entries} == {None}


def test_each_frame_of_a_multi_frame_file_becomes_an_entry(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom(tmp_path / "a.dcm", PatientID="1", frames=3)
    make_dicom(tmp_path / "b.dcm", PatientID="2")
    found = [(entry.key, entry.frame, entry.patient) for entry in expand(dicom_listing(tmp_path)).entries]
    assert found == [("a.dcm", 0, "|1"), ("a.dcm", 1, "|1"), ("a.dcm", 2, "|1"), ("b.dcm", None, "|2")]


def test_a_chosen_frame_stays_the_only_one(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom(tmp_path / "a.dcm", frames=3)
    listing = dicom_listing(tmp_path)
    listing.entries[0].frame = 1
    assert [entry.frame for entry in expand(listing).entries] == [1]


def test_dicom_files_that_are_no_images_are_skipped(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom(tmp_path / "a.dcm", PatientID="1")
    make_dicom(tmp_path / "report.dcm", PatientID="1", pixels=False)
    (tmp_path / "z.dcm").write_bytes(b"no one reads this")
    listing = expand(dicom_listing(tmp_path))
    assert [entry.key for entry in listing.entries] == ["a.dcm"]
    assert {file.key: file.reason for file in listing.skipped} == {
        "report.dcm": "not_image",
        "z.dcm": "unsupported_format",
    }


@pytest.mark.parametrize(("axis", "count"), [("axial", 4), ("coronal", 3), ("sagittal", 2)])
def test_each_slice_of_a_volume_becomes_an_entry(
    tmp_path: Path, axis: Literal["axial", "coronal", "sagittal"], count: int
) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), dtype=np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    entries = expand(dicom_listing(tmp_path), slice_axis=axis).entries
    assert [entry.frame for entry in entries] == list(range(count))


def test_each_page_of_a_tiff_becomes_an_entry(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), level) for level in (0, 90)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [entry.frame for entry in expand(dicom_listing(tmp_path)).entries] == [0, 1]


def test_the_bytes_decide_and_not_the_name(make_dicom: MakeDicom, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.dcm", format="PNG")
    make_dicom(tmp_path / "b.png", PatientID="1", frames=2)
    assert read_header(tmp_path / "a.dcm") == FileHeader()
    assert read_header(tmp_path / "b.png") == FileHeader(patient="|1", frames=2)


@pytest.mark.parametrize("step", ["expand.sniff_format", "dicom_headers.scan_header"])
def test_an_error_while_one_header_is_read_costs_that_file(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for name in "ab":
        make_dicom(tmp_path / f"{name}.dcm")
    module, _, name = f"movl_monai.data.{step}".rpartition(".")
    owner, left = pkgutil.resolve_name(module), [1]
    original = getattr(owner, name)

    def fail_first(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise IndexError("DOE^JANE")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail_first)
    listing = expand(dicom_listing(tmp_path))
    assert {"b.dcm"} <= {one.path.name for one in listing.entries}
    assert len(listing.entries) + len(listing.skipped) == 2


def test_a_damaged_volume_is_left_to_the_transform(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), dtype=np.int16), np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:40] + b"\xff" * 16 + content[56:])
    assert read_header(tmp_path / "a.nii") == FileHeader()
