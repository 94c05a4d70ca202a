"""DICOM objects are valid, hold the given values, align with their source, and copy nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from movl_monai.errors import ConfigError
from movl_monai.predict.dicom import (
    ClassCodes,
    DicomOutputError,
    ImageFinding,
    as_bytes,
    classification_report,
    draw_classes,
    draw_text,
    read_classification_report,
    secondary_capture,
    segmentation_object,
)
from movl_monai.readers import read_segmentation_volume, read_volume
from tests.predict.dicom.conftest import ORIGIN, STAMP, headers

Validator = Callable[[Path], list[str]]
Store = Callable[[Any], Path]
NAMES = ["Normal", "no such finding", "Nodule"]
MASK_NAMES = ["background", "Hippocampus", "no such organ"]


def finding(source: Dataset, **more: Any) -> ImageFinding:
    """An example finding about an image."""
    values = {"Normal": 0.1 + 0.2, "no such finding": 1 / 3, "Nodule": 1 - 0.1 - 0.2 - 1 / 3}
    return ImageFinding(
        sop_instance_uid=str(source.get("SOPInstanceUID")),
        sop_class_uid=str(source.get("SOPClassUID")),
        **{"predicted": "no such finding", "probabilities": values, "calibrated": True, **more},
    )


def report(sources: list[Dataset], findings: list[ImageFinding] | None = None, **more: Any) -> Any:
    found = findings or [finding(source) for source in sources]
    return classification_report(found, sources, origin=ORIGIN, stamp=STAMP, codes_of=ClassCodes(NAMES), **more)


def segmentation(classes: np.ndarray, sources: list[Dataset]) -> Any:
    return segmentation_object(
        classes, sources, class_names=MASK_NAMES, origin=ORIGIN, stamp=STAMP, codes_of=ClassCodes(MASK_NAMES)
    )


def without(source: Dataset, *keywords: str, **values: Any) -> Dataset:
    changed = Dataset()
    changed.update(source)
    for keyword in (*keywords, *values):
        if keyword in changed:
            del changed[keyword]
    for keyword, value in values.items():
        setattr(changed, keyword, value)
    return changed


def classes_for(sources: list[Dataset], *, seed: int = 0) -> np.ndarray:
    shape = (len(sources), int(sources[0].Rows), int(sources[0].Columns))
    classes = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    classes[len(sources) // 2 :][1:2] = 0  # a frame without anything
    return classes


@pytest.mark.parametrize(("flags", "calibrated"), [((True, False), True), ((None, None), False), ((False, True), True)])
def test_a_report_says_what_it_was_given(
    radiograph: Dataset, store: Store, dciodvfy: Validator, flags: tuple[Any, Any], calibrated: bool
) -> None:
    given = finding(radiograph, outside=flags[0], abstained=flags[1], calibrated=calibrated)
    path = store(report([radiograph], [given]))
    (found,) = read_classification_report(path, NAMES)
    assert found.probabilities == pytest.approx(given.probabilities, abs=1e-12)
    for name in ("sop_instance_uid", "sop_class_uid", "frame", "predicted", "calibrated", "outside", "abstained"):
        assert getattr(found, name) == getattr(given, name), name
    assert dciodvfy(path) == []


@pytest.mark.parametrize("grades", [("1", "3"), ("2", "2"), None])
def test_a_report_of_grades_has_the_median_and_the_range(
    radiograph: Dataset, store: Store, dciodvfy: Validator, grades: tuple[str, str] | None
) -> None:
    names = ["0", "1", "2", "3"]
    shares = dict(zip(names, (0.1, 0.2, 0.3, 0.4), strict=True))
    given = finding(radiograph, predicted="2", probabilities=shares, is_grade=True, grades=grades)
    document = classification_report([given], [radiograph], origin=ORIGIN, stamp=STAMP, codes_of=ClassCodes(names))
    path = store(document)
    (found,) = read_classification_report(path, names)
    assert (found.predicted, found.is_grade, found.grades) == ("2", True, grades)
    assert found.probabilities == pytest.approx(shares)
    assert "Median grade" in document.to_json()
    assert "Most probable class" not in document.to_json()
    assert dciodvfy(path) == []


def test_a_report_is_unverified_names_its_algorithm_and_says_what_it_is_for(radiograph: Dataset, store: Store) -> None:
    document = dcmread(store(report([radiograph])))
    assert (document.VerificationFlag, document.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    text = document.to_json()
    for word in ("movl_classification", "1.2.3", "cd" * 32, "Research use only", "99MOVL"):
        assert word in text
    (scheme,) = (item for item in document.CodingSchemeIdentificationSequence)
    assert scheme.CodingSchemeDesignator == "99MOVL"
    assert report([radiograph], is_partial=True).CompletionFlag == "PARTIAL"


def test_a_report_of_a_series_has_a_group_for_each_image(test_data: Path, store: Store, dciodvfy: Validator) -> None:
    sources = headers(test_data / "data" / "mr_series_dicom" / "hippocampus_crop")[:5]
    path = store(report(sources))
    found = read_classification_report(path, NAMES)
    assert [one.sop_instance_uid for one in found] == [str(source.SOPInstanceUID) for source in sources]
    assert dciodvfy(path) == []


@pytest.mark.parametrize("where", ["ct", "mr", "radiograph"])
def test_segmentations_and_captures_of_real_images_are_valid(
    test_data: Path, radiograph: Dataset, store: Store, dciodvfy: Validator, where: str
) -> None:
    folders = {"ct": "ct_contrast_dicom/contrast", "mr": "mr_series_dicom/hippocampus_crop"}
    sources = [radiograph] if where == "radiograph" else headers(test_data / "data" / folders[where])
    sources = sources[:1] if where == "ct" else sources
    classes = classes_for(sources)
    assert dciodvfy(store(segmentation(classes, sources))) == []
    assert dciodvfy(store(segmentation(np.zeros_like(classes), sources))) == []
    pixels = draw_text(np.zeros((3, 40, 50), dtype=np.float32), ["Most probable: Nodule"])
    capture = secondary_capture(pixels, sources[0], origin=ORIGIN, stamp=STAMP)
    assert dciodvfy(store(capture)) == []
    assert dciodvfy(store(report(sources[:1]))) == []


def test_a_segmentation_lies_on_its_source_frame_by_frame(test_data: Path, store: Store) -> None:
    folder = test_data / "data" / "mr_series_dicom" / "hippocampus_crop"
    sources = headers(folder)
    sources.sort(key=lambda source: float(source.ImagePositionPatient[2]))
    classes = classes_for(sources)
    path = store(segmentation(classes, sources))
    segmented = hd.seg.segread(path)
    by_instance = {str(source.SOPInstanceUID): number for number, source in enumerate(sources)}
    groups = segmented.PerFrameFunctionalGroupsSequence
    assert len(groups) == 2 * (len(sources) - 1)  # the frame without anything is left out
    for frame, group in zip(segmented.pixel_array, groups, strict=True):
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        number = by_instance[str(reference.ReferencedSOPInstanceUID)]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, sources[number].ImagePositionPatient)
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(frame, classes[number] == segment)
    # our own reader puts it onto the volume, whose slices run up to the head
    volume = read_volume(folder)
    read = read_segmentation_volume(path, volume)
    np.testing.assert_array_equal(read.values.transpose(2, 1, 0), classes)


def test_frames_of_a_multi_frame_source_are_referred_to_by_number(store: Store, dciodvfy: Validator) -> None:
    source = dcmread(get_testdata_file("eCT_Supplemental.dcm"), stop_before_pixels=True)
    classes = np.zeros((int(source.NumberOfFrames), source.Rows, source.Columns), dtype=np.uint8)
    classes[1, 3:6, 4:9] = 2
    path = store(segmentation(classes, [source]))
    (group,) = hd.seg.segread(path).PerFrameFunctionalGroupsSequence
    assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 2
    assert dciodvfy(path) == []
    given = finding(source, frame=1)
    path = store(report([source], [given]))
    assert read_classification_report(path, NAMES)[0].frame == 1
    assert dciodvfy(path) == []


@pytest.mark.parametrize("kind", ["sr", "seg", "sc"])
def test_the_patient_is_copied_and_series_uids_and_numbers_are_new(
    test_data: Path, store: Store, dciodvfy: Validator, kind: str
) -> None:
    source = headers(test_data / "data" / "mr_series_dicom" / "hippocampus_crop")[0]
    source = without(source, SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎", SeriesNumber=7)
    made = _made(kind, source)
    path = store(made)
    read = dcmread(path)
    assert str(read.PatientName) == "Yamada^Tarou=山田^太郎"
    for keyword in ("PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate", "StudyID"):
        assert read[keyword].value == source[keyword].value, keyword
    assert read.SeriesInstanceUID != source.SeriesInstanceUID
    assert read.SOPInstanceUID != source.SOPInstanceUID
    assert read.SeriesNumber == 7901
    assert (read.ContentDate, read.SeriesDate) == (STAMP.time.strftime("%Y%m%d"),) * 2
    assert "research" in (read.SeriesDescription + str(read.get("ContentQualification"))).lower()
    assert dciodvfy(path) == []
    assert as_bytes(_made(kind, source)) == path.read_bytes()  # nothing in it is drawn


def _made(kind: str, source: Dataset) -> Any:
    if kind == "sr":
        return report([source])
    if kind == "seg":
        return segmentation(classes_for([source]), [source])
    return secondary_capture(np.zeros((30, 40, 3), np.uint8), source, origin=ORIGIN, stamp=STAMP)


@pytest.mark.parametrize("kind", ["sr", "seg", "sc"])
@pytest.mark.parametrize(
    "keyword", ["StudyID", "PatientBirthDate", "ReferringPhysicianName", "SeriesNumber", "AccessionNumber"]
)
def test_what_may_be_empty_may_be_missing_in_the_source(
    radiograph: Dataset, store: Store, dciodvfy: Validator, kind: str, keyword: str
) -> None:
    path = store(_made(kind, without(radiograph, keyword)))
    assert dciodvfy(path) == []
    assert dcmread(path).get("StudyID", "") in ("", "1")


@pytest.mark.parametrize("kind", ["sr", "seg", "sc"])
def test_odd_values_of_the_source_are_left_out_and_quoted_nowhere(
    radiograph: Dataset, kind: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    odd = without(radiograph, PatientSex="X")
    odd.add_new("StudyDate", "LO", "SECRET DAY")
    odd.add_new("PatientName", "LO", "SECRET")  # one component only: highdicom would warn, and quote it
    made = _made(kind, odd)
    assert (made.PatientSex, made.StudyDate, str(made.PatientName)) == ("", "", "SECRET")
    assert "SECRET" not in caplog.text + "".join(str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("kind", ["sr", "seg", "sc"])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_source_without_uids_is_refused(radiograph: Dataset, kind: str, keyword: str) -> None:
    bare = without(radiograph, keyword)
    with pytest.raises(DicomOutputError, match=keyword):
        _made(kind, bare)


def test_a_volume_without_frame_of_reference_is_refused_for_segmentations_only(test_data: Path) -> None:
    source = headers(test_data / "data" / "mr_series_dicom" / "hippocampus_crop")[0]
    bare = without(source, "FrameOfReferenceUID")
    with pytest.raises(DicomOutputError, match="FrameOfReferenceUID"):
        _made("seg", bare)
    assert report([bare]).VerificationFlag == "UNVERIFIED"


def test_slices_that_share_a_uid_are_refused_for_segmentations(test_data: Path) -> None:
    sources = headers(test_data / "data" / "mr_series_dicom" / "hippocampus_crop")[:4]
    same = [*sources[:3], without(sources[3], SOPInstanceUID=sources[0].SOPInstanceUID)]
    with pytest.raises(DicomOutputError, match="of its own for each of the 4 slices") as caught:
        segmentation(classes_for(same), same)
    assert str(sources[0].SOPInstanceUID) not in str(caught.value)


def test_slices_without_thickness_get_their_distance(test_data: Path, store: Store, dciodvfy: Validator) -> None:
    sources = headers(test_data / "data" / "mr_series_dicom" / "hippocampus_crop")[:4]
    sources = [without(source, "SliceThickness") for source in sources]
    path = store(segmentation(classes_for(sources), sources))
    measures = dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == 1
    assert dciodvfy(path) == []


def test_shapes_and_findings_that_do_not_fit_are_refused(radiograph: Dataset) -> None:
    with pytest.raises(DicomOutputError, match=r"\(frames, rows, columns\) = \(1, 64, 64\)"):
        segmentation(np.zeros((1, 64, 63), np.uint8), [radiograph])
    with pytest.raises(DicomOutputError, match="header of the image"):
        report([radiograph], [finding(without(radiograph, SOPInstanceUID="1.2.3"))])


def test_a_capture_stays_lossy_and_keeps_what_is_said_of_burned_in_text(radiograph: Dataset) -> None:
    lossy = without(radiograph, LossyImageCompression="01", BurnedInAnnotation="YES")
    lossy.LossyImageCompressionRatio, lossy.LossyImageCompressionMethod = 12.5, "ISO_10918_1"
    capture = _made("sc", lossy)
    assert (capture.LossyImageCompression, capture.BurnedInAnnotation) == ("01", "YES")
    assert (capture.LossyImageCompressionRatio, list(capture.ImageType)) == (12.5, ["DERIVED", "SECONDARY", "OTHER"])
    (reference,) = capture.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == radiograph.SOPInstanceUID
    assert "BurnedInAnnotation" not in _made("sc", without(radiograph, "BurnedInAnnotation"))


def test_contours_are_drawn_where_the_classes_end_and_nothing_of_the_image_is_covered_by_text() -> None:
    image = np.full((3, 400, 500), 0.5, dtype=np.float32)
    classes = np.zeros((400, 500), dtype=np.uint8)
    classes[100:200, 150:300] = 1
    drawn = draw_classes(image, classes, ["background", "thing"])
    changed = (drawn[:400, :500] != 128).any(axis=-1)
    expected = np.zeros_like(changed)
    expected[100:200, 150:300] = True
    expected[101:199, 151:299] = False
    np.testing.assert_array_equal(changed, expected)
    assert drawn.shape[0] > 400
    assert drawn[400:].any()
    assert (draw_text(image, ["text"])[:400] == 128).all()


def test_codes_are_of_snomed_where_it_has_the_name_or_as_they_are_given() -> None:
    codes = ClassCodes(["Liver", "no_lesion"], {"no_lesion": ["17621005", "SCT", "Normal"]})
    assert (codes["Liver"].value, codes["no_lesion"].value) == ("10200004", "17621005")
    assert codes.category("Liver").meaning == "Anatomical Structure"
    assert ClassCodes(["Nodule"]).category("Nodule").meaning == "Morphologically Abnormal Structure"
    private = ClassCodes(["no_lesion", "no lesion!"])
    assert private["no_lesion"].scheme_designator == "99MOVL"
    assert private["no_lesion"].value != private["no lesion!"].value
    assert len(private["no_lesion"].value) <= 16
    with pytest.raises(ConfigError, match="'lung'"):
        ClassCodes(["Liver"], {"lung": ["1", "SCT", "x"]})
    with pytest.raises(ConfigError, match="value, scheme"):
        ClassCodes(["Liver"], {"Liver": ["1"]})


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BurnedInAnnotation", "DOE"),
        ("RecognizableVisualFeatures", "JANE"),
        ("LossyImageCompressionMethod", "DOE JANE"),
        ("PatientOrientation", ["DOE", "JANE"]),
    ],
)
def test_codes_are_copied_from_closed_lists_alone(radiograph: Dataset, keyword: str, value: Any) -> None:
    source = without(radiograph, **{keyword: value})
    capture = secondary_capture(np.zeros((8, 8, 3), np.uint8), source, origin=ORIGIN, stamp=STAMP)
    assert not {"DOE", "JANE"} & set(str(capture.get(keyword, "")).replace("'", " ").split())
