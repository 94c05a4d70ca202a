"""Masks as a DICOM segmentation, aligned frame by frame with its source."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from movl_monai.predict.dicom.origin import (
    MANUFACTURER,
    DicomOutputError,
    Origin,
    Stamp,
    common,
    deriving,
    finish,
    orientation,
    prepared,
)
from movl_monai.predict.dicom.report import ClassCodes, private_scheme
from movl_monai.readers.dicom.quiet import quiet

__all__ = ["segmentation_object"]

_ALIKE = 2e-3  # tolerance of direction cosines: twice the 0.001 of `group_alike`, as two slices may differ from a third


@quiet()
def segmentation_object(
    classes: np.ndarray,
    sources: Sequence[Dataset],
    *,
    class_names: Sequence[str],
    origin: Origin,
    stamp: Stamp,
    codes_of: ClassCodes,
) -> Any:
    """Make a binary segmentation with a segment for each class except the background.

    Args:
        classes: uint8 (frames, rows, columns), as the source stores its rows and columns: frame k belongs to source k,
            or to frame k of a multi-frame source. 0 is the background.
        sources: headers of the files of one series, or of one multi-frame file.
        class_names: names, the background first.
        origin: network that made the masks.
        stamp: time of creation.
        codes_of: codes of the classes.

    Returns:
        a `highdicom.seg.Segmentation`. Frames without any segment are left out, unless all frames are empty.

    Raises:
        DicomOutputError: if shapes do not match, or the sources lack values that a segmentation needs.

    Reference:
        DICOM PS3.3 A.51 (Segmentation IOD).
    """
    headers = [prepared(source) for source in sources]
    first = headers[0]
    _check(classes, headers)
    _complete(headers)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=origin.name[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=origin.version[:64],
        source=MANUFACTURER,
        parameters=dict(part.split(": ", 1) for part in origin.parameters),
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes_of.category(name),
            segmented_property_type=codes_of[name],
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(class_names)
        if number
    ]
    instances = [str(header.SOPInstanceUID) for header in headers]
    lacks = (
        "it lacks what places its pixels in the patient, such as FrameOfReferenceUID or SliceThickness. Ask for nifti "
        "or png masks instead."
    )
    with deriving("segmentation", lacks), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty masks, and about values in the source
        _align(headers)
        made = hd.seg.Segmentation(
            source_images=headers,
            pixel_array=classes,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=origin.uid("seg series", str(first.SeriesInstanceUID)),
            sop_instance_uid=origin.uid("seg", *sorted(instances)),
            instance_number=1,
            manufacturer_model_name=origin.name[:64],
            software_versions=origin.software,
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description="Automatic, research use only",
            omit_empty_frames=bool(classes.any()),
            coding_schemes=[private_scheme()],
            **common(stamp, first),
        )
    if "PatientOrientation" not in made and "PlaneOrientationSequence" not in _shared(made):
        made.PatientOrientation = orientation(first)
    return finish(made, stamp, sources[0], description="Segmentation, research use only")


def _complete(headers: Sequence[Dataset]) -> None:
    """Set a missing SliceThickness to the slice distance, as the segmentation copies it from the sources."""
    if any(header.get("SliceThickness") not in (None, "") for header in headers) or len(headers) < 2:
        return
    if any("ImagePositionPatient" not in header for header in headers):
        return
    places = np.array([[float(value) for value in header.ImagePositionPatient] for header in headers])
    distance = float(np.median(np.linalg.norm(np.diff(places, axis=0), axis=1)))
    for header in headers:
        header.pop("SliceThickness", None)  # the element object is shared with the source
        header.SliceThickness = f"{distance:.6g}"


def _align(headers: Sequence[Dataset]) -> None:
    """Give slices of nearly the same orientation the exact one of the first, as highdicom requires equality."""
    first = headers[0].get("ImageOrientationPatient")
    if first is None:
        return
    for header in headers[1:]:
        own = header.get("ImageOrientationPatient")
        if own is not None and np.allclose(np.array(own, float), np.array(first, float), rtol=0, atol=_ALIKE):
            header.pop("ImageOrientationPatient")  # the element object is shared with the source
            header.ImageOrientationPatient = list(first)


def _shared(made: Dataset) -> Dataset:
    """Return the functional groups shared by all frames."""
    return made.SharedFunctionalGroupsSequence[0]


def _check(classes: np.ndarray, headers: Sequence[Dataset]) -> None:
    first = headers[0]
    frames = len(headers) if len(headers) > 1 else int(first.get("NumberOfFrames") or 1)
    expected = (frames, int(first.Rows), int(first.Columns))
    if classes.dtype != np.uint8 or classes.shape != expected:
        raise DicomOutputError(
            f"classes must be uint8 (frames, rows, columns) = {expected} as the source, got {classes.dtype} "
            f"{classes.shape}."
        )
    if len({str(header.SeriesInstanceUID) for header in headers}) > 1:
        raise DicomOutputError("A segmentation is about the images of one series, got several; make one for each.")
    if len({str(header.SOPInstanceUID) for header in headers}) < len(headers):
        raise DicomOutputError(
            f"Expected a SOPInstanceUID of its own for each of the {len(headers)} slices, some share one, so that a"
            " segmentation cannot say which slice it is about. Give each slice its own, or ask for nifti masks."
        )
