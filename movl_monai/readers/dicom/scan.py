"""DICOM header fields for the scan of a folder: identity, geometry and size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from pydicom import FileDataset

from movl_monai.readers.dicom.codes import modality_code, sop_class_name, transfer_syntax_name
from movl_monai.readers.dicom.geometry import Geometry, read_geometry
from movl_monai.readers.dicom.header import Source, open_source, parse
from movl_monai.readers.dicom.layout import frame_count
from movl_monai.readers.dicom.lean import read_lean_header, tag_of
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.tags import code_string, integer, number, raw_data, uid, values
from movl_monai.readers.dicom.visible import is_secondary_capture, may_show_names, object_problem
from movl_monai.readers.errors import MedicalImageError

__all__ = ["HeaderScan", "scan_header"]

_TEXTS = ("PatientID", "IssuerOfPatientID")
_KEYWORDS = (
    *_TEXTS,
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality", "ImageType"),
    *("ViewPosition", "Laterality", "ImageLaterality", "BurnedInAnnotation", "ConversionType", "InstanceNumber"),
    *("SpecimenLabelInImage", "PresentationIntentType"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
)
_WANTED = {int(tag_of(keyword)): tag_of(keyword) for keyword in _KEYWORDS}


@dataclass(frozen=True, kw_only=True)
class HeaderScan:
    """Contents of a header. The first four fields and ``label`` identify: they must be salted before they leave memory.

    Args:
        patient: issuer and patient id in one string, None if they are missing.
        study: StudyInstanceUID, "" if it is missing; the same holds for the other UIDs.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        label: value of the requested tag, None if it is missing.
        sop_class: name of the SOP class, "unknown" if it is not of the standard.
        transfer_syntax: UID, "private" if it is not of the standard, "" if it is not stated.
        modality: the code.
        view: ViewPosition.
        laterality: ImageLaterality, else Laterality.
        image_type: the values of ImageType.
        intent: PresentationIntentType.
        burned_in: BurnedInAnnotation.
        is_secondary_capture: True for a screen capture, a film scan or a similar object.
        photometric: PhotometricInterpretation.
        bits_stored: None if it is missing.
        shape: rows and columns, 0 if they are missing.
        samples: values per pixel.
        instance_number: None if it is missing.
        thickness: stated slice distance in mm, for a single slice.
        frames: geometry of each frame.
        shows_names: True if the pixels may show a name, see :func:`may_show_names`.
        problem: ``not_image``, ``segmentation`` or ``label_image`` for objects that are not images, else "".
        header_bytes: length of the header, 0 if the full parser read it.
    """

    patient: str | None
    study: str
    series: str
    instance: str
    label: str | None
    sop_class: str
    transfer_syntax: str
    modality: str
    view: str
    laterality: str
    image_type: tuple[str, ...]
    intent: str
    burned_in: str
    is_secondary_capture: bool
    photometric: str
    bits_stored: int | None
    shape: tuple[int, int]
    samples: int
    instance_number: int | None
    thickness: float
    frames: tuple[Geometry, ...]
    shows_names: bool
    problem: str
    header_bytes: int


def scan_header(
    source: Source,
    *,
    label: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    lean: bool = True,
) -> HeaderScan:
    """Read the header fields of a scan, without pixels.

    Args:
        source: path of a regular file, or a seekable binary file object.
        label: keyword of an additional tag to read.
        limits: upper limits on the sizes that the file may declare.
        lean: False leaves all headers to the full parser; the result is the same.

    Raises:
        MedicalImageError: ``unsupported_format``, ``bad_header``, ``truncated``, or ``too_large`` for more pixels or
            frames than the limits allow.
    """
    with quiet(), open_source(source) as file:
        if lean and label is None and (found := read_lean_header(file, _WANTED)) is not None:
            header = cast(FileDataset, found[0])
            if _is_plain(header):
                return _scan(header, *found[1:], label=None, limits=limits)
        parsed = parse(file, limits=limits)
        return _scan(parsed.header, parsed.pixels is not None, 0, label=label, limits=limits)


def _is_plain(header: FileDataset) -> bool:
    """Return True if the texts that identify the patient are ASCII, so that no character set is needed."""
    raw = (raw_data(header, keyword)[0] for keyword in _TEXTS)
    return all(value is None or (value.isascii() and not {0x1B, 0x5C} & {*value}) for value in raw)


def _scan(header: FileDataset, has_pixels: bool, header_bytes: int, *, label: str | None, limits: Limits) -> HeaderScan:
    problem = object_problem(header, has_pixels=has_pixels)
    issuer, patient = (_text(header, keyword) for keyword in reversed(_TEXTS))
    syntax = uid(header.file_meta, "TransferSyntaxUID")
    sop_class = sop_class_name(header)
    return HeaderScan(
        patient=f"{issuer}|{patient}" if patient else None,
        study=str(uid(header, "StudyInstanceUID")),
        series=str(uid(header, "SeriesInstanceUID")),
        instance=str(uid(header, "SOPInstanceUID")),
        label=None if label is None else _label(header, label),
        sop_class=sop_class,
        transfer_syntax=transfer_syntax_name(syntax) if syntax else "",
        modality=modality_code(header),
        view=code_string(header, "ViewPosition"),
        laterality=code_string(header, "ImageLaterality") or code_string(header, "Laterality"),
        image_type=tuple(str(value).strip().upper() for value in values(header, "ImageType")),
        intent=code_string(header, "PresentationIntentType"),
        burned_in=code_string(header, "BurnedInAnnotation"),
        is_secondary_capture=is_secondary_capture(header),
        photometric=code_string(header, "PhotometricInterpretation"),
        bits_stored=integer(header, "BitsStored"),
        shape=(integer(header, "Rows") or 0, integer(header, "Columns") or 0),
        samples=integer(header, "SamplesPerPixel") or 1,
        instance_number=integer(header, "InstanceNumber"),
        thickness=_thickness(header),
        frames=() if problem else _frames(header, limits),
        shows_names=may_show_names(header),
        problem=problem,
        header_bytes=header_bytes,
    )


def _frames(header: FileDataset, limits: Limits) -> tuple[Geometry, ...]:
    count = frame_count(header)
    rows, columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    if count > limits.frames or rows * columns * count * (integer(header, "SamplesPerPixel") or 1) > limits.values:
        raise MedicalImageError(
            f"At most {limits.values} values and {limits.frames} frames are read from one file, the header asks for "
            f"{rows} x {columns} pixels x {count} frames; raise the limits if the file is to be trusted.",
            reason="too_large",
        )
    if count > 1 and "PerFrameFunctionalGroupsSequence" in header:
        return tuple(read_geometry(header, frame=frame) for frame in range(count))
    geometry = read_geometry(header)
    # for several frames without functional groups the header states at most the position of the first one
    return (geometry if count == 1 else replace(geometry, position=None),) * count


def _thickness(header: FileDataset) -> float:
    stated = [number(header, keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    return next((value for value in stated if value is not None and value > 0), 1.0)


def _text(header: FileDataset, keyword: str) -> str:
    """Return a text; several values are joined by backslashes."""
    raw, _ = raw_data(header, keyword)
    if isinstance(raw, bytes) and raw.isascii() and not {0x1B, 0x5C} & {*raw}:
        return raw.decode("ascii").strip(" \0")
    return "\\".join(str(value) for value in values(header, keyword)).strip(" \0")


def _label(header: FileDataset, keyword: str) -> str | None:
    found: list[Any] = values(header, keyword)
    return "\\".join(str(value).strip() for value in found) or None
