"""Records of the journal: one per file, one per frame; none names a patient."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

__all__ = ["FRAME_COLUMNS", "FILE_COLUMNS", "FileRecord", "FrameRecord"]


@dataclass(kw_only=True)
class FrameRecord:
    """One frame, slice or page.

    Args:
        frame: from 0.
        status: "ok" or a reason code.
        pixels: hash of the model's input; "" for constant images, or if no pixels were read.
        mean: of that image, in [0, 255].
        deviation: its standard deviation.
        exposure: words of :data:`movl_monai.data.decode.EXPOSURES`, separated by blanks.
        x, y, z: centre of the first pixel in mm, LPS.
        orientation: six cosines.
        row_spacing, column_spacing: in mm.
    """

    frame: int
    status: str = "ok"
    pixels: str = ""
    mean: float | None = None
    deviation: float | None = None
    exposure: str = ""
    x: float | None = None
    y: float | None = None
    z: float | None = None
    orientation: str = ""
    row_spacing: float | None = None
    column_spacing: float | None = None


@dataclass(kw_only=True)
class FileRecord:
    """One file.

    Args:
        status: "ok" or a reason code.
        detail: message without names or paths.
        size, modified: bytes, and time of the last change in ns, as the file system says.
        digest: of the bytes that were read.
        covered: number of these bytes, from the beginning of the file.
        format: "dicom", "nifti", "png" and so on, "" if unknown.
        modality, view, laterality, photometric: of closed lists (:mod:`movl_monai.readers.dicom.codes`).
        sop_class: name in the standard.
        transfer_syntax: UID of the standard.
        bits: stored bits.
        rows, columns: of one frame.
        burned_in: BurnedInAnnotation: "YES", "NO", "other" or "".
        secondary_capture, localizer: 1 or 0.
        kind: kind of image by ImageType, see :func:`.codes.image_kind`.
        intent: "FOR PRESENTATION", "FOR PROCESSING", "other" or "".
        shows_names: 1 if the pixels may show a name, so that no picture is made of them.
        patient, study, series, instance: salted.
        person: the patient, salted, without spelling differences.
        label: value of the requested tag.
        instance_number: of a DICOM file.
        thickness: stated slice distance in mm, for a single slice.
        flags: anomalies, separated by blanks.
        histogram: 32 shares of the values of the model's input, in thousandths, separated by blanks.
        frames: one record each.
    """

    status: str = "ok"
    detail: str = ""
    size: int = 0
    modified: int = 0
    digest: str = ""
    covered: int = 0
    format: str = ""
    modality: str = ""
    view: str = ""
    laterality: str = ""
    photometric: str = ""
    sop_class: str = ""
    transfer_syntax: str = ""
    bits: int | None = None
    rows: int | None = None
    columns: int | None = None
    burned_in: str = ""
    secondary_capture: int = 0
    shows_names: int = 0
    localizer: int = 0
    kind: str = ""
    intent: str = ""
    patient: str = ""
    person: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    label: str | None = None
    instance_number: int | None = None
    thickness: float | None = None
    flags: str = ""
    histogram: str = ""
    frames: list[FrameRecord] = field(default_factory=list)


FILE_COLUMNS = tuple(column.name for column in fields(FileRecord) if column.name != "frames")
FRAME_COLUMNS = tuple(column.name for column in fields(FrameRecord))
