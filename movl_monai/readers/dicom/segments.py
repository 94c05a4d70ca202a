"""Segments of a DICOM segmentation, and flags for header faults that do not affect the mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.tags import code_string, integer, items, number, numbers, uid, values
from movl_monai.readers.errors import MedicalImageError

__all__ = ["flag_nonconforming", "read_labels", "referenced_images"]

_CODES = ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")
_ALGORITHMS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
_LONGEST = 64  # characters of an LO
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")


def read_labels(header: Dataset) -> dict[int, str]:
    """Return the label of each segment by its number, without background (0).

    Raises:
        MedicalImageError: ``bad_header`` without segments, or for missing or repeated numbers; ``missing_tag`` for a
            segment without a label.
    """
    found: dict[int, str] = {}
    for place, segment in enumerate(items(header, "SegmentSequence"), start=1):
        index = integer(segment, "SegmentNumber")
        if index is None or index < 0 or index in found:
            raise MedicalImageError(
                f"Expected a SegmentNumber of its own for every segment, item {place} of SegmentSequence has none;"
                " export the segmentation again.",
                reason="bad_header",
            )
        found[index] = _text(segment, "SegmentLabel")
        if index and not found[index]:
            raise MedicalImageError(
                f"Expected a SegmentLabel for every segment, segment {index} has none; export the segmentation again.",
                reason="missing_tag",
            )
    found.pop(0, None)
    if not found:
        raise MedicalImageError("The segmentation describes no segment; export it again.", reason="bad_header")
    return found


def flag_nonconforming(header: Dataset, flags: Flags) -> None:
    """Flag missing or wrong tags that the standard requires but the mask does not need.

    Reference:
        DICOM PS3.3 C.8.20.2 and C.8.20.4 (segments), 8.8 (codes), C.7.6.16.2.2 (frame content), C.7.6.17 (dimensions)
        and C.12.2 (references).
    """
    for segment in items(header, "SegmentSequence"):
        for keyword in _segment_faults(segment):
            flags.add("nonconforming", keyword)
    for keyword in (*_frame_faults(header), *_reference_faults(header)):
        flags.add("nonconforming", keyword)


def referenced_images(header: Dataset) -> list[str]:
    """Return the SOPInstanceUIDs that a segmentation lists as its sources; they must not reach messages."""
    return [
        str(uid(instance, "ReferencedSOPInstanceUID"))
        for series in items(header, "ReferencedSeriesSequence")
        for instance in items(series, "ReferencedInstanceSequence")
    ]


def _segment_faults(segment: Dataset) -> Iterator[str]:
    if len(_text(segment, "SegmentLabel")) > _LONGEST:
        yield "SegmentLabel"
    algorithm = code_string(segment, "SegmentAlgorithmType")
    if algorithm not in _ALGORITHMS:
        yield "SegmentAlgorithmType"
    elif algorithm != "MANUAL" and not _text(segment, "SegmentAlgorithmName"):
        yield "SegmentAlgorithmName"
    for keyword in _CODES:
        codes = items(segment, keyword)
        if len(codes) != 1:
            yield keyword
        for code in codes:
            if not 0 < len(_text(code, "CodeMeaning")) <= _LONGEST:
                yield "CodeMeaning"
            if not any(_text(code, value) for value in _CODE_VALUES):
                yield "CodeValue"
            if not _text(code, "CodingSchemeDesignator") and "URNCodeValue" not in code:
                yield "CodingSchemeDesignator"


def _frame_faults(header: Dataset) -> Iterator[str]:
    shared, own = items(header, "SharedFunctionalGroupsSequence"), items(header, "PerFrameFunctionalGroupsSequence")
    if len(shared) != 1:
        yield "SharedFunctionalGroupsSequence"
    if len(own) != (number(header, "NumberOfFrames") or 1):
        yield "NumberOfFrames"
    dimensions = items(header, "DimensionIndexSequence")
    if not dimensions:
        yield "DimensionIndexSequence"
    contents = [items(group, "FrameContentSequence") for group in own]
    if not own or any(len(content) != 1 for content in contents):
        yield "FrameContentSequence"
    if dimensions and any(
        len(numbers(content[0], "DimensionIndexValues")) != len(dimensions) for content in contents if content
    ):
        yield "DimensionIndexValues"
    if not all(_points_to_something(dimension, [*shared[:1], *own[:1]]) for dimension in dimensions):
        yield "DimensionIndexPointer"


def _points_to_something(dimension: Dataset, groups: Sequence[Dataset]) -> bool:
    pointer, group_pointer = (
        keyword_for_tag(found[0]) if (found := values(dimension, keyword)) and isinstance(found[0], int) else ""
        for keyword in ("DimensionIndexPointer", "FunctionalGroupPointer")
    )
    if not pointer:
        return False
    held = [item for group in groups for item in items(group, group_pointer)] if group_pointer else groups
    return any(pointer in item for item in held)


def _reference_faults(header: Dataset) -> Iterator[str]:
    listed = referenced_images(header)
    if len(set(listed)) < len(listed):
        yield "ReferencedSeriesSequence"
    for group in items(header, "PerFrameFunctionalGroupsSequence"):
        named = [
            (str(uid(image, "ReferencedSOPInstanceUID")), *numbers(image, "ReferencedFrameNumber"))
            for derivation in items(group, "DerivationImageSequence")
            for image in items(derivation, "SourceImageSequence")
        ]
        if len(set(named)) < len(named):
            yield "SourceImageSequence"


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(map(str, values(dataset, keyword))).strip(" \0")
