"""Headers of DICOM files: found by content, never an exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from movl_monai.data.entries import FileHeader
from movl_monai.data.expand import read_dicom_header

MakeDicom = Callable[..., Path]


def test_patient_is_issuer_and_id(make_dicom: MakeDicom, tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "no_suffix", PatientID=" 12 ", IssuerOfPatientID="Clinic", frames=3)
    assert read_dicom_header(path) == FileHeader(patient="Clinic|12", frames=3)


@pytest.mark.parametrize("patient", ["", None])
def test_an_empty_patient_id_is_no_patient(make_dicom: MakeDicom, tmp_path: Path, patient: str | None) -> None:
    tags = {} if patient is None else {"PatientID": patient}
    assert read_dicom_header(make_dicom(tmp_path / "a.dcm", IssuerOfPatientID="Clinic", **tags)) == FileHeader()


def test_a_file_without_preamble_is_recognised(make_dicom: MakeDicom, tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a", PatientID="1")
    path.write_bytes(path.read_bytes()[132:])
    assert read_dicom_header(path) == FileHeader(patient="|1")


def test_an_object_without_pixels_is_not_an_image(make_dicom: MakeDicom, tmp_path: Path) -> None:
    assert read_dicom_header(make_dicom(tmp_path / "sr.dcm", pixels=False)) == FileHeader(problem="not_image")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(bytes(128) + b"DICM", "truncated"), (bytes(128) + b"DICM" + b"\xff" * 300, "bad_header")],
    ids=["nothing", "noise"],
)
def test_a_damaged_file_is_a_problem_and_no_exception(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    assert read_dicom_header(tmp_path / "a.dcm").problem == problem


def test_a_number_of_frames_beyond_reason_is_not_expanded(make_dicom: MakeDicom, tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", NumberOfFrames="2000000")
    assert read_dicom_header(path) == FileHeader(problem="too_large")


def test_sequences_nested_on_purpose_are_a_bad_header(tmp_path: Path, make_dicom: MakeDicom) -> None:
    path = make_dicom(tmp_path / "a.dcm", pixels=False)
    begin = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(path.read_bytes() + begin * 5000)
    assert read_dicom_header(path) == FileHeader(problem="bad_header")


def test_a_deflated_bomb_is_not_inflated(make_dicom: MakeDicom, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(make_dicom(tmp_path / "a.dcm", PatientID="1"))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "small.dcm", enforce_file_format=True)
    assert read_dicom_header(tmp_path / "small.dcm") == FileHeader(patient="|1")
    dataset.add_new(0x00091001, "OB", bytes(64 * 2**20))
    dataset.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    assert (tmp_path / "bomb.dcm").stat().st_size < 2**20
    assert read_dicom_header(tmp_path / "bomb.dcm") == FileHeader(problem="too_large")
