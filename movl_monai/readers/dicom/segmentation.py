"""Open a DICOM segmentation: its segments, the geometry of its frames, and their stored values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.datadict import keyword_for_tag
from pydicom.uid import SegmentationStorage

from movl_monai.readers.dicom.codes import sop_class_name
from movl_monai.readers.dicom.decode import decode_frame
from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.geometry import Geometry, read_geometry
from movl_monai.readers.dicom.header import ParsedFile, PixelElement, Source, open_source, parse
from movl_monai.readers.dicom.layout import PixelLayout, pixel_layout
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.tags import (
    code_string,
    functional_group,
    functional_groups,
    integer,
    items,
    number,
    numbers,
    uid,
    values,
)
from movl_monai.readers.errors import MedicalImageError

__all__ = [
    "OpenSegmentation",
    "SEGMENTATION_CLASSES",
    "SegmentFrame",
    "SegmentationType",
    "flag_nonconforming",
    "open_segmentation",
    "read_labels",
    "referenced_images",
]

SegmentationType = Literal["BINARY", "FRACTIONAL", "LABELMAP"]

SEGMENTATION_CLASSES = (SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of label masks; the second is Label Map Segmentation Storage."""

_SINGLE = (
    *("SegmentIdentificationSequence", "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
)
_CODES = ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")
_ALGORITHMS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
_LONGEST = 64  # characters of an LO
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")


@dataclass(frozen=True, kw_only=True)
class SegmentFrame:
    """One frame of a segmentation.

    Args:
        index: of the frame, from 0.
        segment: number of its segment; None for a label map of all segments.
        geometry: place of the frame.
        sources: its source images, as (SOPInstanceUID, frame from 0, or None for all); must not reach messages.
    """

    index: int
    segment: int | None
    geometry: Geometry
    sources: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, kw_only=True)
class OpenSegmentation:
    """A segmentation with an open file.

    Args:
        header: of the file; it carries patient data.
        layout: of the pixel data.
        kind: SegmentationType.
        labels: segment number -> SegmentLabel, free text that must not reach messages; without background.
        largest: stored value of the fraction 1 in a FRACTIONAL object, 1 in a BINARY one.
        frames: description of the frames.
        flags: anomalies so far.
        decoders: names of the decoders used.
    """

    header: FileDataset
    layout: PixelLayout
    kind: SegmentationType
    labels: dict[int, str]
    largest: int
    frames: tuple[SegmentFrame, ...]
    flags: Flags
    decoders: set[str]
    _file: ParsedFile
    _pixels: PixelElement

    def stored(self, index: int) -> np.ndarray:
        """Decode one frame to its stored values (H, W), with the decoders of images.

        Raises:
            MedicalImageError: if it cannot be decoded; ``reason`` says why.
        """
        decoded = decode_frame(self._file, self._pixels, self.layout, index, self.flags)
        self.decoders.add(decoded.decoder)
        return decoded.values


@contextmanager
def open_segmentation(source: Source, *, limits: Limits) -> Iterator[OpenSegmentation]:
    """Open a DICOM segmentation; for callers that mute the parsers with :func:`quiet`.

    A mask needs the number and label of every segment, and the segment number of every frame; callers that need the
    geometry of the frames require it themselves. Other requirements of the standard are flagged if they are violated.
    highdicom is not used here: it refuses such headers, has no limits, and does not read big endian, run lengths of
    single bits, or deflated frames.

    Args:
        source: path of a regular file, or a seekable binary file object.
        limits: upper limits on the sizes that the file may declare.

    Yields:
        The segmentation, whose frames can be decoded until the block ends.

    Raises:
        MedicalImageError: ``not_segmentation`` for other objects; ``bad_header`` if segments or frames are not
            described; ``missing_tag`` for a segment without a label; and the errors of reading a DICOM file.

    Reference:
        DICOM PS3.3 A.51 and C.8.20.
    """
    with open_source(source) as opened:
        yield _open(parse(opened, limits=limits), limits)


def _open(file: ParsedFile, limits: Limits) -> OpenSegmentation:
    header, pixels = file.header, file.pixels
    if uid(header, "SOPClassUID") not in SEGMENTATION_CLASSES:
        raise MedicalImageError(
            f"Expected a DICOM segmentation, got {sop_class_name(header)}; read images with LoadMedicalImage.",
            reason="not_segmentation",
        )
    if pixels is None:
        raise MedicalImageError("The segmentation has no pixel data; export it again.", reason="not_image")
    flags = Flags()
    layout = pixel_layout(header, keyword=pixels.keyword, flags=flags, limits=limits)
    kind = code_string(header, "SegmentationType")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP") or layout.samples != 1 or layout.is_float:
        raise MedicalImageError(
            "SegmentationType must be BINARY, FRACTIONAL or LABELMAP with whole numbers of one sample, got something"
            " else; export the segmentation again.",
            reason="bad_header",
        )
    labels = read_labels(header)
    _check_frames(header, layout.frames)
    flag_nonconforming(header, flags)
    frames = tuple(_frame(header, index, labels, is_label_map=kind == "LABELMAP") for index in range(layout.frames))
    _check_distinct(frames)
    return OpenSegmentation(
        header=header,
        layout=layout,
        kind=cast(SegmentationType, kind),
        labels=labels,
        largest=_largest(header) if kind == "FRACTIONAL" else 1,
        frames=frames,
        flags=flags,
        decoders=set(),
        _file=file,
        _pixels=pixels,
    )


def _largest(header: FileDataset) -> int:
    largest = integer(header, "MaximumFractionalValue")
    if largest is None or largest < 1:
        raise MedicalImageError(
            "MaximumFractionalValue must be a whole number >= 1 in a FRACTIONAL segmentation, got something else;"
            " export it again.",
            reason="missing_tag",
        )
    return largest


def _check_frames(header: FileDataset, count: int) -> None:
    """Check that every frame has its own description; a single frame may use the shared groups alone."""
    groups = items(header, "PerFrameFunctionalGroupsSequence")
    if len(groups) < count and (groups or count > 1):
        raise MedicalImageError(
            f"Expected an item of PerFrameFunctionalGroupsSequence for each of the {count} frames, got {len(groups)};"
            " export the segmentation again.",
            reason="bad_header",
        )
    for index, group in enumerate(groups[:count]):
        repeated = [keyword for keyword in _SINGLE if len(items(group, keyword)) > 1]
        if repeated:
            raise MedicalImageError(
                f"Expected one item of {repeated[0]} for frame {index}, got several; export the segmentation again.",
                reason="bad_header",
            )


def _frame(header: FileDataset, index: int, labels: dict[int, str], *, is_label_map: bool) -> SegmentFrame:
    group = functional_group(header, "SegmentIdentificationSequence", index)
    named = [] if group is None else numbers(group, "ReferencedSegmentNumber")
    if not is_label_map and (len(named) != 1 or named[0] not in labels):
        raise MedicalImageError(
            f"Frame {index} must name one of the segments {', '.join(map(str, labels))}, it does not; export the"
            " segmentation again.",
            reason="bad_header",
        )
    return SegmentFrame(
        index=index,
        segment=None if is_label_map else int(named[0]),
        geometry=read_geometry(header, frame=index),
        sources=tuple(dict.fromkeys(_sources(functional_groups(header, "DerivationImageSequence", index)))),
    )


def _check_distinct(frames: Sequence[SegmentFrame]) -> None:
    """Check that the frames of a segment differ in place or source."""
    seen: dict[object, int] = {}
    for frame in frames:
        key = (frame.segment, frame.geometry.position, frame.geometry.orientation, frame.sources)
        if (first := seen.setdefault(key, frame.index)) != frame.index:
            raise MedicalImageError(
                f"Expected one frame of a segment for each place, frames {first} and {frame.index} have the same place"
                " (or none) and the same sources: nothing says to which slice or frame each belongs. Slices that share"
                " one SOPInstanceUID cannot be told apart: give each its own, or export the segmentation with a"
                " PlanePositionSequence for each frame.",
                reason="mask_mismatch",
            )


def _sources(derivations: Sequence[Dataset]) -> Iterator[tuple[str, int | None]]:
    for derivation in derivations:
        for image in items(derivation, "SourceImageSequence"):
            instance = str(uid(image, "ReferencedSOPInstanceUID"))
            for frame in _numbers(image):
                yield instance, frame


def _numbers(image: Dataset) -> list[int | None]:
    found = numbers(image, "ReferencedFrameNumber")
    return [int(number) - 1 for number in found] if found else [None]


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
