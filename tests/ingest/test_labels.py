"""Sources of labels, and tags that may not be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from movl_monai.data.entries import Entry
from movl_monai.errors import DataError
from movl_monai.ingest.labels import check_keyword, labels_from
from tests.ingest.conftest import MakePng


@pytest.mark.parametrize(
    "keyword", ["BodyPartExamined", "ViewPosition", "PatientSex", "ProtocolName", "ImageType", "KVP"]
)
def test_technical_tags_may_be_labels(keyword: str) -> None:
    assert check_keyword(keyword) == keyword


@pytest.mark.parametrize(
    "keyword",
    [
        *("PatientName", "PatientID", "PatientBirthDate", "PatientAge", "OtherPatientIDs", "PatientComments"),
        *("AccessionNumber", "StudyDate", "StudyInstanceUID", "SeriesTime", "InstitutionName", "StationName"),
        *("ReferringPhysicianName", "OperatorsName", "DeviceSerialNumber", "StudyID", "ImageComments", "EthnicGroup"),
        *(
            "PatientTelephoneNumbers",
            "StudyDescription",
            "RequestingService",
            "AdditionalPatientHistory",
            "FrameOfReferenceUID",
        ),
    ],
)
def test_tags_that_identify_may_not(keyword: str) -> None:
    with pytest.raises(DataError, match=f"dicom:{keyword}: this tag can identify"):
        check_keyword(keyword)


def test_an_unknown_keyword_and_bytes_are_errors() -> None:
    with pytest.raises(DataError, match="has no such keyword"):
        check_keyword("BodyPart")
    with pytest.raises(DataError, match="representation OB or OW, which cannot be classes"):
        check_keyword("PixelData")


def entry(found: Entry | str) -> Entry:
    assert isinstance(found, Entry)
    return found


def test_class_folders(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "ill/deep/a.png")
    make_png(tmp_path / "top.png")
    source = labels_from("folders", tmp_path)
    assert entry(source("ill/deep/a.png", 0, None)).label == "ill"
    assert source("top.png", 0, None) == "outside_class_folder"


def test_split_folders(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "Training/ill/a.png")
    make_png(tmp_path / "test/well/b.png")
    found = entry(labels_from("folders", tmp_path)("Training/ill/a.png", 0, None))
    assert (found.label, found.split) == ("ill", "train")
    assert labels_from("folders", tmp_path)("test/b.png", 0, None) == "outside_class_folder"


def test_no_class_folders_is_an_error(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    with pytest.raises(DataError, match="there are no class folders"):
        labels_from("folders", tmp_path)


def test_a_csv_tells_all_it_knows(tmp_path: Path, make_png: MakePng) -> None:
    for name in ("a", "b", "m", "v"):
        make_png(tmp_path / f"in/{name}.png")
    (tmp_path / "labels.csv").write_text(
        "path,label,mask,patient_id,split,domain,frame\n"
        "a.png,ill,m.png,p1,val,far,\nb.png,,,,,,\nv.png,well,,,,,1\nv.png,ill,,,,,2\n"
    )
    source = labels_from(str(tmp_path / "labels.csv"), tmp_path / "in")
    found = entry(source("a.png", 0, None))
    assert (found.label, found.patient, found.split, found.domain) == ("ill", "p1", "val", "far")
    assert found.mask == tmp_path / "in/m.png"
    assert source("b.png", 0, None) == "no_label"
    assert source("m.png", 0, None) == "not_in_list"
    assert [entry(source("v.png", frame, None)).label for frame in (1, 2)] == ["well", "ill"]
    assert source("v.png", 0, None) == "not_in_list"


def test_a_csv_that_names_missing_files_is_an_error(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,label\na.png,ill\nlost.png,ill\n")
    with pytest.raises(
        DataError, match=r"labels.csv: 1 of 2 files .* not there \(rows 3\)\. Paths are relative to the folder of"
    ):
        labels_from(str(tmp_path / "labels.csv"), tmp_path)


def test_a_missing_csv_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--labels none.csv: there is no such CSV"):
        labels_from(str(tmp_path / "none.csv"), tmp_path)


def test_a_tag_and_nothing(tmp_path: Path) -> None:
    source = labels_from("dicom:BodyPartExamined", tmp_path)
    assert entry(source("a.dcm", 0, " HEAD ")).label == "HEAD"
    assert source("a.dcm", 0, None) == "no_label"
    assert entry(labels_from(None, tmp_path)("a.dcm", 0, "HEAD")).label is None
