"""DICOM segmentations of other writers: attributes that the mask needs are required, all others only flagged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.tag import Tag

from movl_monai.readers import read_dicom_volume, read_segmentation, read_segmentation_volume
from movl_monai.transforms import LoadImageMask
from tests.readers.dicom.objects import as_file
from tests.readers.refusals import refused
from tests.readers.segmentations import LABELS, segmentation, source_series, written

Change = Callable[[Dataset], None]


def code(keyword: str, **changes: Any) -> Change:
    """Change the codes of the first segment; None deletes."""

    def change(seg: Dataset) -> None:
        (item,) = seg.SegmentSequence[0][keyword].value
        for name, value in changes.items():
            delattr(item, name) if value is None else setattr(item, name, value)

    return change


def put(keyword: str, value: Any, *, where: str = "", every: bool = False) -> Change:
    """Set a tag of the file, or of the first (or each) item of a sequence; None deletes."""

    def change(seg: Dataset) -> None:
        found = seg[where].value if where else [seg]
        for item in found if every else found[:1]:
            delattr(item, keyword) if value is None else setattr(item, keyword, value)

    return change


def repeat(sequence: str) -> Change:
    return lambda seg: seg[sequence].value.append(copy.deepcopy(seg[sequence].value[0]))


def repeat_source(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        images = group.DerivationImageSequence[0].SourceImageSequence
        images.append(copy.deepcopy(images[0]))


def move_dimension(seg: Dataset) -> None:
    seg.DimensionIndexSequence[-1].DimensionIndexPointer = Tag("TemporalPositionIndex")


GROUPS, SHARED, SEGMENTS = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "SegmentSequence"
CATEGORY, KIND = "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"

DEFECTS: list[tuple[Change, str]] = [
    (repeat("ReferencedSeriesSequence"), "ReferencedSeriesSequence"),
    (repeat_source, "SourceImageSequence"),
    (put(CATEGORY, None, where=SEGMENTS, every=True), CATEGORY),
    (put(CATEGORY, [], where=SEGMENTS), CATEGORY),
    (put(KIND, None, where=SEGMENTS), KIND),
    (put(KIND, [], where=SEGMENTS, every=True), KIND),
    (code(CATEGORY, CodeMeaning=None), "CodeMeaning"),
    (code(KIND, CodeMeaning=""), "CodeMeaning"),
    (code(KIND, CodeMeaning="L" * 200), "CodeMeaning"),
    (code(KIND, CodeValue=None), "CodeValue"),
    (code(KIND, CodingSchemeDesignator=None), "CodingSchemeDesignator"),
    (put("SegmentAlgorithmType", None, where=SEGMENTS, every=True), "SegmentAlgorithmType"),
    (put("SegmentAlgorithmType", "BY HAND", where=SEGMENTS), "SegmentAlgorithmType"),
    (put("SegmentAlgorithmType", "AUTOMATIC", where=SEGMENTS), "SegmentAlgorithmName"),
    (put("SegmentLabel", "L" * 100, where=SEGMENTS), "SegmentLabel"),
    (put("FrameContentSequence", None, where=GROUPS, every=True), "FrameContentSequence"),
    (put("FrameContentSequence", None, where=GROUPS), "FrameContentSequence"),
    (put("DimensionIndexSequence", None), "DimensionIndexSequence"),
    (put("DimensionIndexSequence", []), "DimensionIndexSequence"),
    (repeat("DimensionIndexSequence"), "DimensionIndexValues"),
    (put("DimensionIndexPointer", None, where="DimensionIndexSequence"), "DimensionIndexPointer"),
    (put("DimensionIndexPointer", Tag("PatientName"), where="DimensionIndexSequence"), "DimensionIndexPointer"),
    (move_dimension, "DimensionIndexPointer"),
]


def changed(change: Change, kind: str = "BINARY", **options: Any) -> tuple[list[Any], Dataset]:
    sources = source_series()
    file = written(segmentation(sources, kind=kind, **options))
    file.seek(0)
    seg = dcmread(file)
    change(seg)
    return sources, seg


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize(("change", "keyword"), DEFECTS)
def test_what_the_mask_does_not_need_is_flagged_and_the_mask_is_the_same(
    change: Change, keyword: str, kind: str
) -> None:
    sources, seg = changed(change, kind)
    file, volume = written(seg), read_dicom_volume([written(source) for source in sources])
    for k in (1, 2):
        mask, record = read_segmentation(file, written(sources[k]))
        np.testing.assert_array_equal(mask[0], LABELS[k])
        assert record["flags"] == [f"nonconforming:{keyword}"]
    read = read_segmentation_volume(file, volume)
    np.testing.assert_array_equal(read.values, LABELS.transpose(2, 1, 0))
    assert read.flags == (f"nonconforming:{keyword}",)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_conforming_segmentation_has_no_flag(kind: str) -> None:
    sources = source_series()
    pixels = (LABELS == 1).astype(np.float32) if kind == "FRACTIONAL" else LABELS
    options = {"labels": ("Liver",)} if kind == "FRACTIONAL" else {}
    _, record = read_segmentation(written(segmentation(sources, pixels, kind=kind, **options)), written(sources[1]))
    assert record["flags"] == []


def test_the_tags_of_all_frames_may_stand_with_a_single_one() -> None:
    sources = source_series()
    seg = segmentation(sources[1:2], LABELS[1:2], kind="LABELMAP")
    (own,), (shared,) = seg.PerFrameFunctionalGroupsSequence, seg.SharedFunctionalGroupsSequence
    shared.update(own)
    del seg.PerFrameFunctionalGroupsSequence
    mask, record = read_segmentation(written(seg), written(sources[1]))
    np.testing.assert_array_equal(mask[0], LABELS[1])
    assert "nonconforming:NumberOfFrames" in record["flags"]


# attributes that the mask needs


def same_source(seg: Dataset) -> None:
    """Refer to one SOPInstanceUID from all frames, and leave out their positions."""
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        image.ReferencedSOPInstanceUID = (
            seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]["ReferencedSOPInstanceUID"].value
        )


def one_place(seg: Dataset) -> None:
    """Give all frames the place of the first one."""
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def two_places(seg: Dataset) -> None:
    places = [group.PlanePositionSequence[0] for group in seg.PerFrameFunctionalGroupsSequence]
    seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence = [places[0], places[-1]]


def two_numbers(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = [1, 2]


def last_segment(keyword: str, value: Any) -> Change:
    """Change the last segment; the first one of a label map is the background."""
    return lambda seg: setattr(seg.SegmentSequence[-1], keyword, value)


def drop_frame(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:-1]


REFUSED: list[tuple[str, Change, str, str]] = [
    ("BINARY", put("SegmentNumber", None, where=SEGMENTS), "bad_header", "item 1 of SegmentSequence has none"),
    ("BINARY", put("SegmentNumber", 2, where=SEGMENTS), "bad_header", "item 2 of SegmentSequence has none"),
    ("BINARY", put("SegmentNumber", 7, where=SEGMENTS), "bad_header", "must name one of the segments 7, 2"),
    ("LABELMAP", last_segment("SegmentNumber", 7), "bad_header", r"numbers 1, 7 or 0 .* got 2"),
    ("BINARY", put("SegmentLabel", None, where=SEGMENTS), "missing_tag", "segment 1 has none"),
    ("LABELMAP", last_segment("SegmentLabel", ""), "missing_tag", "segment 2 has none"),
    ("BINARY", put("SegmentIdentificationSequence", None, where=GROUPS), "bad_header", "Frame 0 must name one"),
    ("BINARY", two_numbers, "bad_header", "Frame 0 must name one"),
    ("LABELMAP", drop_frame, "bad_header", "each of the 2 frames, got 1"),
    ("LABELMAP", two_places, "bad_header", "one item of PlanePositionSequence for frame 0"),
    ("LABELMAP", one_place, "mask_mismatch", "frames 0 and 1 lie on the same pixels"),
    ("LABELMAP", same_source, "mask_mismatch", "share one SOPInstanceUID cannot be told apart"),
    ("BINARY", same_source, "mask_mismatch", "share one SOPInstanceUID cannot be told apart"),
]


@pytest.mark.parametrize(("kind", "change", "reason", "message"), REFUSED)
def test_without_number_label_or_place_a_mask_is_refused(kind: str, change: Change, reason: str, message: str) -> None:
    sources, seg = changed(change, kind)
    volume = read_dicom_volume([written(source) for source in sources])
    with refused(reason, message) as caught:
        read_segmentation_volume(written(seg), volume)
    assert "1.2." not in str(caught.value)


@pytest.mark.parametrize("is_series", [True, False])
def test_the_flags_of_a_mask_follow_those_of_its_image(tmp_path: Path, is_series: bool) -> None:
    sources, seg = changed(repeat("ReferencedSeriesSequence"))
    (tmp_path / "series").mkdir()
    for number, source in enumerate(sources):
        as_file(source, tmp_path / "series" / f"{number}.dcm")
    as_file(seg, tmp_path / "mask.dcm")
    load = LoadImageMask(num_classes=3)
    for _ in range(2):  # the second time from the kept mask
        image = tmp_path / "series" if is_series else tmp_path / "series" / "1.dcm"
        _, classes, record = load.read(image, tmp_path / "mask.dcm", 1 if is_series else None)
        assert classes is not None
        np.testing.assert_array_equal(classes[0], LABELS[1])
        assert record["flags"].count("nonconforming:ReferencedSeriesSequence") == 1
