"""Records of the journal, one per file and one per frame, and the final statuses of files; none names a patient."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType

from movl_monai.readers.errors import REASONS

__all__ = ["FILE_COLUMNS", "FRAME_COLUMNS", "FileRecord", "FrameRecord", "LOST", "STATUSES", "UNREADABLE"]


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


_FOUND = {
    "ok": "an image, all of it in the manifest",
    "some_frames_unreadable": "some frames could be read and are in the manifest, others could not",
}
_NOT_READ = {
    "hidden_file": "a hidden file, or in a hidden folder; not read",
    "other_file": "by its name no image (a table, a text, an archive), and its bytes are of none; not read",
    "linked_folder": "a link to a folder; not followed",
    "folder_not_readable": "a folder that may not be opened",
    "link_out_of_folder": "a link to a file outside of the folder; not followed",
    "bad_name": "a name that a manifest cannot hold (not Unicode, or with blanks at its ends); rename the file",
    "missing_file": "a list names it, and it is not there",
}
_LEFT_OUT = {
    "outside_class_folder": "an image that lies in no class folder",
    "not_in_list": "an image that the CSV with the labels does not name",
    "no_label": "an image without a label, in the CSV or in the DICOM tag",
    "mask": "the mask of an image, no image of its own",
    "image_without_mask": "an image in a folder of images and masks that has no mask",
    "mask_without_image": "a mask that has no image",
    "ambiguous_pair": "one of two files of one name, which cannot be paired",
    "outside_pair_folders": "a file beside the folders of images and masks",
    "duplicate_row": "a row of a list that is there twice",
}
_FAILED = {
    "worker_died": "the process that read the file ended, twice: a decoder crashed or the memory was not enough",
    "unexpected_error": "an error without a reason code of its own; the detail names its type",
}

STATUSES = MappingProxyType({**_FOUND, **_NOT_READ, **_LEFT_OUT, **_FAILED, **REASONS})
"""Status of a file -> its meaning."""

LOST = frozenset({*_FAILED, *REASONS, "some_frames_unreadable", "missing_file", "folder_not_readable", "bad_name"}) - {
    "not_image",
    "segmentation",
    "label_image",
    "unsupported_format",
}
"""Statuses of files that should be images but cannot be read; reports, plans, masks and texts are excluded."""

UNREADABLE = frozenset(STATUSES) - {"ok", "duplicate_row", "mask"}
"""Statuses of a manifest's files that cannot be read completely."""
