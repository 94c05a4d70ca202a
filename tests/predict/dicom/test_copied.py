"""Derived objects copy the same attributes of a source, however the source was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from movl_monai.predict.dicom import DicomOutputError, as_bytes
from movl_monai.predict.dicom.origin import deriving, orientation
from movl_monai.readers.dicom import read_header
from movl_monai.readers.dicom.quiet import quiet
from tests.predict.dicom.test_objects import _made
from tests.privacy.objects import COPIED, REFERENCES, planted_elements
from tests.privacy.plant import TAG, planted_object

Validator = Callable[[Path], list[str]]
KINDS = ["sr", "seg", "sc"]


@pytest.fixture(scope="module", params=["explicit", "implicit"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with an unmistakable word in every identifying attribute."""
    dataset, _ = planted_object(0, label=0)
    path = tmp_path_factory.mktemp("planted") / "1.dcm"
    if request.param == "implicit":
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=request.param == "implicit", little_endian=True)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_only_patient_study_and_references_are_copied(kind: str, planted: Path, tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(as_bytes(_made(kind, read_header(planted))))
    found = planted_elements(tmp_path / "1.dcm")
    assert {where for where in found if where[-1] not in (COPIED if len(where) == 1 else REFERENCES)} == set()
    source = dcmread(planted)
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID"):
        assert found[keyword,] == source[keyword].value


@pytest.mark.parametrize("kind", KINDS)
def test_a_character_set_that_is_none_is_no_obstacle(
    kind: str, radiograph: Dataset, tmp_path: Path, dciodvfy: Validator
) -> None:
    source = Dataset()
    source.update(radiograph)
    source.SpecificCharacterSet = f"{TAG}CS"
    with quiet():  # `finding` of these tests reads values, and is told
        (tmp_path / "1.dcm").write_bytes(as_bytes(_made(kind, source)))
    assert dcmread(tmp_path / "1.dcm").SpecificCharacterSet == "ISO_IR 192"
    assert dciodvfy(tmp_path / "1.dcm") == []


@pytest.mark.parametrize(
    ("value", "expected"), [(["L", "F"], ["L", "F"]), (["A"], ""), (None, ""), ("SECRET", ""), (["secret", "P"], "")]
)
def test_an_orientation_is_copied_where_it_is_one(value: Any, expected: Any) -> None:
    header = Dataset()
    header.add_new("PatientOrientation", "LO", value)
    assert orientation(header) == expected


def test_what_highdicom_refuses_is_told_without_its_words() -> None:
    with (
        pytest.raises(
            DicomOutputError, match=r"^No report can be derived from this source \(ValueError\): ask"
        ) as caught,
        deriving("report", "ask"),
    ):
        raise ValueError("DOE^JANE")
    assert caught.value.__suppress_context__
    with pytest.raises(DicomOutputError, match="on purpose"), deriving("report", "ask"):
        raise DicomOutputError("on purpose")


def test_the_planted_image_has_pixels(planted: Path) -> None:
    assert np.ptp(dcmread(planted).pixel_array) > 0
