"""The lean parser against the full one: the same results on every file, whole or damaged."""

from __future__ import annotations

import dataclasses
import random
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from movl_monai.readers.dicom import Limits, scan_header
from movl_monai.readers.dicom.lean import read_lean_header
from movl_monai.readers.dicom.scan import HeaderScan
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, grey_object, shipped
from tests.readers.refusals import refused

FOLDER = Path(pydicom.data.__file__).parent
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))


def outcome(source: Any, *, lean: bool) -> HeaderScan | tuple[str, str]:
    """Return the result of a scan, or its reason and message."""
    try:
        return dataclasses.replace(scan_header(source, lean=lean), header_bytes=0)
    except MedicalImageError as error:
        return error.reason, str(error)


def is_lean(file: BytesIO) -> bool:
    return read_lean_header(file, {}) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_both_parsers_agree_on_every_shipped_file(path: Path) -> None:
    assert outcome(path, lean=True) == outcome(path, lean=False)


def test_most_shipped_files_take_the_lean_way() -> None:
    with_preamble = [path for path in FILES if path.read_bytes()[128:132] == b"DICM"]
    lean = [path for path in with_preamble if is_lean(BytesIO(path.read_bytes()))]
    assert len(lean) > 0.8 * len(with_preamble)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "liver_1frame.dcm", "reportsi.dcm"])
def test_both_parsers_agree_on_damaged_files(name: str) -> None:
    whole = shipped(name).read_bytes()
    generator = random.Random(0)
    different = set()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(generator.choice((1, 3, 10))):
            damaged[generator.randrange(132, min(len(damaged), 4000))] = generator.randrange(256)
        content = bytes(damaged[: generator.choice((len(damaged), generator.randrange(140, len(damaged))))])
        found = outcome(BytesIO(content), lean=True)
        assert found == outcome(BytesIO(content), lean=False)
        different.add(found)
    assert len(different) > 20


def test_both_parsers_agree_on_clinical_files(test_data: Path) -> None:
    files = [
        path for name in ("ct_contrast_dicom", "mr_series_dicom") for path in (test_data / "data" / name).rglob("*.dcm")
    ]
    assert files
    for path in files[::3]:
        found = scan_header(path)
        assert found.header_bytes > 0
        assert outcome(path, lean=True) == outcome(path, lean=False)


def test_what_a_scan_says_of_a_slice() -> None:
    scan = scan_header(shipped("CT_small.dcm"))
    assert (scan.modality, scan.shape, scan.sop_class) == ("CT", (128, 128), "CT Image Storage")
    assert scan.patient == "|1CT1"
    (frame,) = scan.frames
    assert frame.spacing == (0.661468, 0.661468)
    assert frame.position == (-158.135803, -179.035797, -75.699997)
    assert 0 < scan.header_bytes < 16384


def test_every_frame_of_an_enhanced_object_has_its_place() -> None:
    scan = scan_header(shipped("eCT_Supplemental.dcm"))
    assert len(scan.frames) == 2
    assert len({frame.position for frame in scan.frames}) == 2


def test_a_label_is_read_where_it_is_asked_for() -> None:
    file = as_file(grey_object(np.zeros((2, 2), np.uint8), BodyPartExamined="CHEST"))
    assert scan_header(file, label="BodyPartExamined").label == "CHEST"
    assert scan_header(file, label="StationName").label is None


def test_a_patient_in_another_character_set_is_left_to_the_full_parser() -> None:
    dataset = grey_object(np.zeros((2, 2), np.uint8), SpecificCharacterSet="ISO_IR 100", PatientID="Müller")
    assert scan_header(as_file(dataset)).patient == "|Müller"


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
def test_sequences_are_walked_over(implicit: bool, undefined: bool) -> None:
    inner = Dataset()
    inner.PatientID, inner.Rows = "inner", 7
    inner.is_undefined_length_sequence_item = undefined
    outer = Dataset()
    outer.ReferencedImageSequence = Sequence([inner])
    outer["ReferencedImageSequence"].is_undefined_length = undefined
    dataset = grey_object(np.zeros((2, 3), np.uint8), PatientID="outer")
    dataset.ReferencedStudySequence = Sequence([outer, Dataset()])
    dataset["ReferencedStudySequence"].is_undefined_length = undefined
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = as_file(dataset)
    assert is_lean(file)
    assert scan_header(file).patient == "|outer"
    assert scan_header(file).shape == (2, 3)
    assert outcome(file, lean=True) == outcome(file, lean=False)


def test_a_header_longer_than_the_first_read_is_read_on() -> None:
    dataset = grey_object(np.zeros((2, 2), np.uint8), PatientID="1")
    dataset.add_new(0x00091001, "OB", bytes(300_000))
    file = as_file(dataset)
    assert is_lean(file)
    assert outcome(file, lean=True) == outcome(file, lean=False)
    assert scan_header(file).shape == (2, 2)


def test_a_deflated_bomb_is_not_inflated() -> None:
    dataset = grey_object(np.zeros((2, 2), np.uint8))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert scan_header(as_file(dataset)).shape == (2, 2)
    dataset.add_new(0x00091001, "OB", bytes(64 * 2**20))
    with refused("too_large", "goes beyond"):
        scan_header(as_file(dataset))


def test_more_pixels_than_the_limits_allow_are_refused() -> None:
    file = as_file(grey_object(np.zeros((4, 4), np.uint8)))
    with refused("too_large", "4 x 4 pixels x 1 frames"):
        scan_header(file, limits=Limits(values=15))


def test_nested_sequences_end_in_a_reason() -> None:
    content = as_file(grey_object(np.zeros((2, 2), np.uint8))).getvalue()
    begin = struct.pack("<HH2s2xL", 0x40, 0xA730, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    start = content.index(b"\x28\x00\x02\x00US")
    file = BytesIO(content[:start] + begin * 5000)
    assert not is_lean(file)
    with pytest.raises(MedicalImageError) as caught:
        scan_header(file)
    assert caught.value.reason == "bad_header"


def test_objects_without_pixels_and_masks_say_so() -> None:
    assert scan_header(shipped("reportsi.dcm")).problem == "not_image"
    assert scan_header(shipped("liver_1frame.dcm")).problem == "segmentation"


def test_a_transfer_syntax_that_is_not_stated_is_left_to_the_full_parser() -> None:
    dataset = grey_object(np.zeros((2, 2), np.uint8))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    file = BytesIO()
    file.write(bytes(128) + b"DICM")
    pydicom.filewriter.write_file_meta_info(file, meta, enforce_standard=False)
    content = as_file(dataset).getvalue()
    file.write(content[content.index(b"\x08\x00\x16\x00UI") :])
    assert not is_lean(file)
    assert scan_header(file).shape == (2, 2)
