"""Read one file in a worker process: its header, then every frame as the model's input, preprocessed as in training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from movl_monai.data.decode import EXPOSURES, ItemTransform, decode, explain
from movl_monai.data.entries import file_problem
from movl_monai.data.ids import Salter
from movl_monai.data.read_folders import name_problem
from movl_monai.data.spelling import patient_key
from movl_monai.ingest.records import FileRecord, FrameRecord
from movl_monai.readers import raster_frame_count, slice_count, sniff_format
from movl_monai.readers.dicom import Geometry, HeaderScan, Limits, scan_header
from movl_monai.readers.dicom.codes import (
    INTENTS,
    LATERALITIES,
    PHOTOMETRICS,
    VIEWS,
    image_kind,
    known,
    presentation_intent,
)
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.segmentation import open_segmentation

__all__ = ["Examine", "Known", "Preprocessing", "Task", "died"]

_CHUNK = 2**20
_BINS = 32


@dataclass(frozen=True)
class Known:
    """Journal entry of a file: enough to detect a change."""

    size: int
    modified: int
    digest: str
    covered: int


@dataclass(frozen=True)
class Task:
    """A file to read: its salted key, its absolute path, and its journal entry."""

    key: str
    path: str
    known: Known | None = None


def died() -> FileRecord:
    """Return the record of a file that ended its process twice."""
    return FileRecord(status="worker_died", detail="the process that read the file ended")


@dataclass(frozen=True)
class Examine:
    """Read a file; faults become its status.

    Args:
        root: base folder for the check of file names.
        salter: makes the ids.
        transform: from an item with ``image`` and ``frame`` to the model's input, float32 (3, H, W) in [0, 1] on the
            grid k/255; None reads headers only.
        slice_axis: plane of NIfTI slices.
        label: keyword of the DICOM tag that holds the label.
    """

    root: Path
    salter: Salter
    transform: ItemTransform | None
    slice_axis: Any = "axial"
    label: str | None = None

    def __call__(self, task: Task) -> FileRecord | None:
        """Return the record of a file, None if its journal entry is still valid."""
        record = FileRecord()
        try:
            return self._examined(task, record)
        except Exception as error:  # folders contain every kind of broken file; none may end the run
            record.status, record.detail = explain(error)
            record.covered, record.frames, record.digest = record.size, [], ""
            with suppress(Exception):  # an unreadable file is read again in the next run
                record.digest = _digest(Path(task.path), record.covered)
            return record

    def _examined(self, task: Task, record: FileRecord) -> FileRecord | None:
        path = Path(task.path)
        if problem := file_problem(path):
            record.status = problem
            return record
        status = os.stat(path)
        record.size, record.modified, record.covered = status.st_size, status.st_mtime_ns, status.st_size
        known_still = task.known is not None and (status.st_size, status.st_mtime_ns) == (
            task.known.size,
            task.known.modified,
        )
        if task.known is not None and known_still and _digest(path, task.known.covered) == task.known.digest:
            return None
        self._read_header(path, record)
        # taken before the pixels are read: after a change in between, the record belongs to the older file
        record.digest = _digest(path, record.covered)
        if record.status == "ok" and self.transform is not None:
            self._read_pixels(path, record, self.transform)
        return record

    def _read_header(self, path: Path, record: FileRecord) -> None:
        record.format = sniff_format(path)
        if record.format == "dicom":
            scan = scan_header(path, label=self.label)
            _fill_in(record, scan, self.salter)
            if record.status == "segmentation":
                _look_at_segmentation(path, record)
            if self.transform is None:
                record.covered = scan.header_bytes or record.size
            return
        if record.format == "unknown":
            record.format = ""
            record.status = name_problem(path, self.root) or "unsupported_format"
            return
        count = 1
        if record.format in ("nifti", "nifti_pair"):
            count = slice_count(path, axis=self.slice_axis)
        elif record.format in ("tiff", "gif", "webp"):
            count = raster_frame_count(path)
        record.frames = [FrameRecord(frame=frame) for frame in range(count)]

    def _read_pixels(self, path: Path, record: FileRecord, transform: ItemTransform) -> None:
        counts = np.zeros(_BINS)
        failures: Counter[tuple[str, str]] = Counter()
        flags: dict[str, None] = dict.fromkeys(record.flags.split())
        for frame, decoded in self._decoded(path, record, transform):
            if decoded.image is None:
                frame.status = decoded.reason
                failures[decoded.reason, decoded.detail] += 1
                continue
            _fill_in_pixels(frame, decoded.image, counts)
            frame.exposure = " ".join(flag for flag in decoded.record.get("flags", ()) if flag in EXPOSURES)
            _fill_in_record(record, decoded.record)
            flags.update(dict.fromkeys(decoded.record.get("flags", ())))
        readable = len(record.frames) - failures.total()
        record.flags = " ".join(flags)
        if readable:
            record.histogram = " ".join(str(round(share)) for share in 1000 * counts / counts.sum())
        if failures:
            (reason, detail), _ = failures.most_common(1)[0]
            record.status, record.detail = ("some_frames_unreadable" if readable else reason), detail

    def _decoded(self, path: Path, record: FileRecord, transform: ItemTransform) -> Iterator[tuple[FrameRecord, Any]]:
        for frame in record.frames:
            item: dict[str, Any] = {"image": str(path)}
            yield frame, decode(item if len(record.frames) == 1 else item | {"frame": frame.frame}, transform)


def _look_at_segmentation(path: Path, record: FileRecord) -> None:
    """Record the flags of a DICOM segmentation, or the reason why it cannot be a mask."""
    try:
        with quiet(), open_segmentation(path, limits=Limits()) as opened:
            record.flags = " ".join(opened.flags.codes)
    except Exception as error:  # the file is not an image in any case
        record.detail = ": ".join(filter(None, explain(error)))


def _fill_in(record: FileRecord, scan: HeaderScan, salter: Salter) -> None:
    """Record the fields of a DICOM header; identifying values are salted here."""
    record.status = scan.problem or "ok"
    record.detail = scan.sop_class if scan.problem else ""
    record.modality = scan.modality
    record.view = known(scan.view, VIEWS)
    record.laterality = known(scan.laterality, LATERALITIES)
    record.photometric = known(scan.photometric, PHOTOMETRICS)
    record.burned_in = known(scan.burned_in, frozenset(("YES", "NO")))
    record.sop_class, record.transfer_syntax = scan.sop_class, scan.transfer_syntax
    record.bits, record.label = scan.bits_stored, scan.label
    record.rows, record.columns = (size or None for size in scan.shape)
    record.secondary_capture = int(scan.is_secondary_capture)
    record.shows_names = int(scan.shows_names)
    record.localizer = int("LOCALIZER" in scan.image_type)
    record.kind = "" if scan.is_secondary_capture else image_kind(scan.image_type)
    record.intent = known(presentation_intent(scan.intent, scan.sop_class), INTENTS)
    record.patient = salter.short("patient", scan.patient) if scan.patient else ""
    record.person = salter.short("person", patient_key(scan.patient)) if scan.patient else ""
    for kind in ("study", "series", "instance"):
        uid = getattr(scan, kind)
        setattr(record, kind, salter.short(kind, uid) if uid else "")
    record.instance_number, record.thickness = scan.instance_number, scan.thickness
    record.frames = [_frame(index, geometry) for index, geometry in enumerate(scan.frames)]


def _frame(index: int, geometry: Geometry) -> FrameRecord:
    frame = FrameRecord(frame=index)
    if geometry.position is not None:
        frame.x, frame.y, frame.z = geometry.position
    if geometry.orientation is not None:
        frame.orientation = " ".join(f"{cosine:.6g}" for cosine in geometry.orientation)
    if geometry.spacing is not None:
        frame.row_spacing, frame.column_spacing = geometry.spacing
    return frame


def _fill_in_pixels(frame: FrameRecord, image: np.ndarray, counts: np.ndarray) -> None:
    """Record the statistics of the pixels, and add their histogram.

    Args:
        frame: receives the statistics.
        image: uint8 (3, H, W).
        counts: float (32,), changed in place.
    """
    frame.mean, frame.deviation = round(float(image.mean()), 2), round(float(image.std()), 2)
    if frame.deviation or image.min() != image.max():  # constant images are equal without being copies
        frame.pixels = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    counts += np.bincount((image >> 3).ravel(), minlength=_BINS)


def _fill_in_record(record: FileRecord, technical: dict[str, Any]) -> None:
    """Record the facts that only decoding shows, for files without a DICOM header."""
    if record.format == "dicom":
        return
    record.rows, record.columns = technical.get("rows"), technical.get("columns")
    spacing = technical.get("pixel_spacing")
    if spacing is not None:
        for frame in record.frames:
            frame.row_spacing, frame.column_spacing = spacing
    record.thickness = technical.get("slice_spacing")


def _digest(path: Path, covered: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while covered > 0 and (chunk := stream.read(min(_CHUNK, covered))):
            digest.update(chunk)
            covered -= len(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Settings of the preprocessing, with the names and defaults of the bundles' configs.

    Args:
        image_size: side in pixels.
        resize_mode: see :class:`movl_monai.transforms.ResizeImage`.
        ct_windows: one or three windows for CT, names of ``HU_PRESETS``.
        voi: window or VOI LUT of other DICOM files; "full" for none.
        dicom_range: source range of [0, 1] in DICOM files without a window.
        value_range: the values that become 0 and 1 in grey levels of 16 bits or more, in float and in signed files.
        nifti_range: source range of [0, 1] in NIfTI volumes.
        slice_axis: plane of NIfTI slices.
        exif: "apply" turns photos as EXIF says, "ignore" leaves them as stored; None turns photos, and their masks if
            the sizes show on which pixels they were drawn.
    """

    image_size: int = 224
    resize_mode: Literal["stretch", "crop", "pad"] = "stretch"
    ct_windows: Sequence[str] = ("lungs", "mediastinum", "spine_bone")
    voi: int | str = 0
    dicom_range: Literal["full", "percentile"] = "full"
    value_range: tuple[float, float] | None = None
    nifti_range: Literal["percentile", "minmax", "ct"] = "percentile"
    slice_axis: Literal["axial", "coronal", "sagittal"] = "axial"
    exif: Literal["apply", "ignore"] | None = None

    def build(self) -> ItemTransform:
        """Return the chain: load, resize, quantise.

        Raises:
            ValueError: for an unknown setting.
        """
        from monai.transforms import Compose

        from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged

        load = LoadMedicalImaged(
            "image",
            ct_windows=self.ct_windows,
            voi=self.voi,
            dicom_range=self.dicom_range,
            value_range=self.value_range,
            nifti_range=self.nifti_range,
            slice_axis=self.slice_axis,
            exif=self.exif or "apply",
            record_key="record",
        )
        resize = ResizeImaged("image", image_size=self.image_size, mode=self.resize_mode)
        return Compose([load, resize, QuantizeImaged("image")])

    def describe(self) -> dict[str, Any]:
        """Return the settings as a dictionary for JSON."""
        value_range = None if self.value_range is None else list(self.value_range)
        return asdict(self) | {"ct_windows": list(self.ct_windows), "value_range": value_range}
