"""Open a DICOM segmentation: what its segments are, where its frames lie, and the stored values of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from movl_monai.transforms.dicom.decode import decode_frame
from movl_monai.transforms.dicom.flags import Flags
from movl_monai.transforms.dicom.geometry import Geometry, read_geometry
from movl_monai.transforms.dicom.header import ParsedFile, PixelElement, parse
from movl_monai.transforms.dicom.layout import PixelLayout, pixel_layout
from movl_monai.transforms.dicom.limits import Limits
from movl_monai.transforms.dicom.record import sop_class_name
from movl_monai.transforms.dicom.source import Source, open_source
from movl_monai.transforms.dicom.tags import code_string, functional_group, integer, items, numbers, uid
from movl_monai.transforms.errors import MedicalImageError
from pydicom import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

__all__ = ["SEGMENTATION_CLASSES", "OpenSegmentation", "SegmentFrame", "SegmentationType", "open_segmentation"]

SegmentationType = Literal["BINARY", "FRACTIONAL", "LABELMAP"]

SEGMENTATION_CLASSES = (SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")
"""The SOP classes of label masks; the second one is Label Map Segmentation Storage."""


@dataclass(frozen=True, kw_only=True)
class SegmentFrame:
    """What one frame shows.

    Args:
        index: of the frame, from 0.
        segment: number of its segment; None where the frame is a label map of all.
        geometry: where it lies.
        sources: the images it was made from, as (SOPInstanceUID, frame from 0, or None for all); must not reach
            messages.
    """

    index: int
    segment: int | None
    geometry: Geometry
    sources: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, kw_only=True)
class OpenSegmentation:
    """A segmentation whose file is open.

    Args:
        header: of the file; it carries patient data.
        layout: what the pixel data holds.
        kind: SegmentationType.
        labels: segment number -> SegmentLabel, free text that must not reach messages; without background.
        largest: stored value that means 1 in a FRACTIONAL object, 1 in a BINARY one.
        frames: what the frames show.
        flags: what was unusual so far.
        decoders: names of the decoders that have run.
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

    Limits are checked before highdicom sees the header, which it checks as a segmentation. The frames are decoded here
    and not there, because there is no limit there, and neither big endian, run lengths of single bits, nor deflated
    frames.

    Args:
        source: path of a regular file, or a seekable binary file object.
        limits: what the file may ask for at most.

    Yields:
        The segmentation, whose frames can be decoded until the block ends.

    Raises:
        MedicalImageError: ``not_segmentation`` for other objects; ``bad_header`` where the header is none of a
            segmentation; and what reading any DICOM file raises.

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
    labels = _checked_segments(header)
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP") or layout.samples != 1 or layout.is_float:
        raise MedicalImageError(
            "SegmentationType must be BINARY, FRACTIONAL or LABELMAP with whole numbers of one sample, got something"
            " else; export the segmentation again.",
            reason="bad_header",
        )
    return OpenSegmentation(
        header=header,
        layout=layout,
        kind=cast(SegmentationType, kind),
        labels=labels,
        largest=_largest(header) if kind == "FRACTIONAL" else 1,
        frames=tuple(_frame(header, index, labels, is_label_map=kind == "LABELMAP") for index in range(layout.frames)),
        flags=flags,
        decoders=set(),
        _file=file,
        _pixels=pixels,
    )


def _checked_segments(header: FileDataset) -> dict[int, str]:
    """Let highdicom check the header; return the labels of the segments by number."""
    from highdicom.seg import Segmentation

    # highdicom refuses other encodings for the sake of the pixel data, which it does not get
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.set_original_encoding(False, True)
    try:
        found = Segmentation.from_dataset(header, copy=False)
        descriptions = {number: found.get_segment_description(number) for number in found.segment_numbers}
        labels = {int(number): str(text.segment_label).strip() for number, text in descriptions.items() if number > 0}
    except Exception as error:
        # not chained: messages quote values and identifiers
        raise MedicalImageError(
            f"highdicom refuses the header as that of a segmentation ({type(error).__name__}); export it again.",
            reason="bad_header",
        ) from None
    if not labels:
        raise MedicalImageError("The segmentation describes no segment; export it again.", reason="bad_header")
    return labels


def _largest(header: FileDataset) -> int:
    largest = integer(header, "MaximumFractionalValue")
    if largest is None or largest < 1:
        raise MedicalImageError(
            "MaximumFractionalValue must be a whole number >= 1 in a FRACTIONAL segmentation, got something else;"
            " export it again.",
            reason="missing_tag",
        )
    return largest


def _frame(header: FileDataset, index: int, labels: dict[int, str], *, is_label_map: bool) -> SegmentFrame:
    group = functional_group(header, "SegmentIdentificationSequence", index)
    number = None if group is None else integer(group, "ReferencedSegmentNumber")
    if not is_label_map and number not in labels:
        raise MedicalImageError(
            f"Frame {index} must name one of the segments {', '.join(map(str, labels))}, it does not; export the"
            " segmentation again.",
            reason="bad_header",
        )
    return SegmentFrame(
        index=index,
        segment=None if is_label_map else number,
        geometry=read_geometry(header, frame=index),
        sources=tuple(_sources(functional_group(header, "DerivationImageSequence", index))),
    )


def _sources(derivation: Dataset | None) -> Iterator[tuple[str, int | None]]:
    for image in items(derivation, "SourceImageSequence") if derivation is not None else []:
        instance = str(uid(image, "ReferencedSOPInstanceUID"))
        for number in _numbers(image):
            yield instance, number


def _numbers(image: Dataset) -> list[int | None]:
    found = numbers(image, "ReferencedFrameNumber")
    return [int(number) - 1 for number in found] if found else [None]
