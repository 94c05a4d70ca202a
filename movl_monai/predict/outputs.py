"""Output formats of a prediction: one class each, registered by name."""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from movl_monai.errors import ConfigError, UnwritableError
from movl_monai.files import write_atomically

if TYPE_CHECKING:  # the help of the command reads the registry, and must not start torch
    from movl_monai.predict.dicom import ImageFinding, Origin, Stamp
    from movl_monai.predict.job import Ending, Job, Picture
    from movl_monai.predict.loader import Item
    from movl_monai.predict.model import Model
    from movl_monai.predict.tasks import SegmentedCase

__all__ = ["OUTPUTS", "Output", "check_names", "check_outputs", "check_outside", "output_folders", "register"]

Row = dict[str, Any]
_OF_IMAGES = ("classification", "ordinal", "multilabel", "regression")

OUTPUTS: dict[str, type[Output]] = {}
"""Output formats by name."""


class Output:
    """One output format; subclasses override the methods that they need.

    DICOM files are named by their UIDs, all other files by salted ids.

    Attributes:
        name: name in `--outputs`.
        tasks: tasks that have this output; None for all.
        folders: folders of its files, below the folder of the outputs.

    Args:
        job: model, folder and sources of the prediction.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...] | None] = None
    folders: ClassVar[tuple[str, ...]] = ()

    def __init__(self, job: Job) -> None:
        self.job = job

    def classified(self, item: Item, row: Row) -> list[str]:
        """Write the files of a classified image, and return their names relative to the folder of the outputs.

        Raises:
            UnwritableError: if its source does not allow this output; the row then gives the reason.
        """
        return []

    def segmented(self, case: SegmentedCase, row: Row) -> list[str]:
        """Write the files of a segmented image or volume; see :meth:`classified`."""
        return []

    def draw(self, picture: Picture) -> list[str]:
        """Write a picture of a classified image, or of a frame of a case; see :meth:`classified`."""
        return []

    def finish(self, ending: Ending) -> None:
        """Write files about several images at the end, and record them for the rows of these images."""

    def table(self, rows: Sequence[Row]) -> tuple[str, bytes] | None:
        """Return name and content of the file of all rows."""
        return None

    @classmethod
    def is_of_units(cls) -> bool:
        """Return whether files are written after each image or case; the others are made from the journal."""
        return any(getattr(cls, name) is not getattr(Output, name) for name in ("classified", "segmented", "draw"))


def register(output: type[Output]) -> type[Output]:
    """Add an output format to :data:`OUTPUTS`."""
    OUTPUTS[output.name] = output
    return output


def check_outside(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Return the folder of the outputs, which must not lie in the input.

    Raises:
        ConfigError: if it does.
    """
    folder, origin = Path(out), Path(source)
    if origin.is_dir() and folder.resolve().is_relative_to(origin.resolve()):
        raise ConfigError(
            "--output_dir lies inside of the input, so that the next run would predict its outputs; choose another."
        )
    return folder


def check_names(names: Sequence[str]) -> None:
    """Check that outputs are known, and one or more.

    Raises:
        ConfigError: if not.
    """
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise ConfigError(f"--outputs must be of {', '.join(OUTPUTS)}, got {', '.join(map(repr, unknown))}.")
    if not names:
        raise ConfigError(f"--outputs must name at least one of {', '.join(OUTPUTS)}.")


def check_outputs(names: Sequence[str], task: str) -> list[str]:
    """Return the requested outputs in the order of the registry.

    Raises:
        ConfigError: if the list is empty, or an output is unknown or not available for the task.
    """
    check_names(names)
    known = [name for name, output in OUTPUTS.items() if output.tasks is None or task in output.tasks]
    if other := [name for name in names if name not in known]:
        possible = ", ".join(known)
        raise ConfigError(f"A model for {task} has the outputs {possible}; it has no {', '.join(other)}.")
    return [name for name in OUTPUTS if name in names]


def output_folders() -> list[str]:
    """Return the folders of all outputs, relative to the folder of a prediction."""
    return [".", "local", *sorted({folder for output in OUTPUTS.values() for folder in output.folders})]


@register
class CsvTable(Output):
    """``predictions.csv``: a row for each image or case."""

    name = "csv"

    def table(self, rows: Sequence[Row]) -> tuple[str, bytes]:
        """Return the table."""
        from movl_monai.evaluation.rows import results_csv

        model = self.job.model
        return "predictions.csv", results_csv(rows, model.class_names, task=model.task).encode()


@register
class JsonTable(Output):
    """``predictions.json``: the rows, with facts about the model."""

    name = "json"

    def table(self, rows: Sequence[Row]) -> tuple[str, bytes]:
        """Return the rows as JSON."""
        from movl_monai.evaluation.rows import results_json

        model = self.job.model
        said = {name: getattr(model.facts, name) for name in ("name", "version", "backbone", "checkpoint_sha256")}
        return "predictions.json", results_json(rows, model.class_names, model=said, task=model.task).encode()


class _DicomOutput(Output):
    """A DICOM object in a new series of the study of its source."""

    series_offset: ClassVar[int]

    def origin(self) -> Origin:
        """Return the name, version and hashes of the model."""
        from movl_monai.predict.dicom import Origin

        facts = self.job.model.facts
        return Origin(
            name=facts.name,
            version=facts.version,
            fingerprint=facts.fingerprint,
            checkpoint_sha256=facts.checkpoint_sha256,
            backbone=facts.backbone,
        )

    def stamp(self) -> Stamp:
        """Return the time and the number of the series."""
        from movl_monai.predict.dicom import Stamp

        return Stamp(seconds=self.job.started, series_offset=self.series_offset)

    def save(self, dataset: Any) -> list[str]:
        """Write an object, and return its name."""
        from movl_monai.predict.dicom import as_bytes

        name = f"{self.name}/{dataset.SOPInstanceUID}.dcm"
        write_atomically(self.job.folder / name, as_bytes(dataset), called=f"A DICOM object ({self.name})")
        return [name]


class _CodedOutput(_DicomOutput):
    """A DICOM object with coded classes."""

    def __init__(self, job: Job) -> None:
        from movl_monai.predict.dicom import ClassCodes

        super().__init__(job)
        self.codes = ClassCodes(job.model.class_names, job.codes)


@register
class StructuredReport(_CodedOutput):
    """One report per series, or per unit; see :func:`~movl_monai.predict.dicom.classification_report`."""

    name, tasks, folders, series_offset = "sr", _OF_IMAGES, ("sr",), 901

    def finish(self, ending: Ending) -> None:
        """Report on each series. An image that no report can refer to is left out, and its row says so."""
        if self.job.model.units is not None:
            for row in ending.rows:
                if row.get("key_images"):
                    ending.written[row["id"]].add(self.name, partial(self._report_unit, row, ending))
            return
        groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in ending.rows:
            item = ending.items.get(row["id"])
            scan = None if item is None else self.job.series.get(item["case"])
            if scan is not None:
                groups[scan.study, scan.series].append(row)
            elif row["status"] == "ok":
                ending.written[row["id"]].fail(self.name, UnwritableError("not_dicom"))
        for rows in groups.values():
            self._report(rows, ending)

    def _report_unit(self, row: Row, ending: Ending) -> list[str]:
        """Report on a series, study or patient, in the study of its first key image; it names those of that study."""
        items = [ending.items[name] for name in row["key_images"]]
        scans = [self.job.series.get(item["case"]) for item in items]
        first = scans[0]
        if first is None:
            raise UnwritableError("not_dicom")
        found = _Findings(self.job)
        for item, scan in zip(items, scans, strict=True):
            if scan is not None and scan.study == first.study:
                found.add(row, item)
        leading, *others = found.findings.values()
        named = [(one.sop_instance_uid, one.sop_class_uid, one.frame) for one in others]
        unit = "" if self.job.model.units is None else self.job.model.units.unit
        found.findings = {(leading.sop_instance_uid, None): replace(leading, others=named, unit=unit)}
        return self._write(found, is_partial=bool(row.get("unreadable")))

    def _report(self, rows: Sequence[Row], ending: Ending) -> None:
        found = _Findings(self.job)
        predicted = {row["id"]: row for row in rows if row["status"] == "ok"}
        for name, row in predicted.items():
            ending.written[name].add(self.name, partial(found.add, row, ending.items[name]))
        reported = [name for name in predicted if self.name not in ending.written[name].problems]
        if reported:
            ending.add(reported, self.name, lambda: self._write(found, is_partial=len(reported) < len(rows)))

    def _write(self, found: _Findings, *, is_partial: bool) -> list[str]:
        from movl_monai.predict.dicom import classification_report

        report = classification_report(
            list(found.findings.values()),
            list(found.sources.values()),
            origin=self.origin(),
            stamp=self.stamp(),
            codes_of=self.codes,
            is_partial=is_partial,
        )
        return self.save(report)


class _Findings:
    """Findings of a report and the headers of their images; copies of an image are reported once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.findings: dict[tuple[str, int | None], ImageFinding] = {}
        self.sources: dict[str, Any] = {}
        self._read: dict[str, Any] = {}

    def add(self, row: Row, item: Item) -> list[str]:
        """Add the row of an image.

        Raises:
            DicomOutputError: if no object can refer to the image.
        """
        from movl_monai.predict.dicom import check_source

        file, frame = self.job.place(item)
        if file not in self._read:
            self._read[file] = self.job.header(file)
            check_source(self._read[file])
        header = self._read[file]
        finding = _finding(row, header, frame, self.job.model)
        self.sources.setdefault(finding.sop_instance_uid, header)
        self.findings.setdefault((finding.sop_instance_uid, frame), finding)
        return []


def _finding(row: Row, header: Any, frame: int | None, model: Model) -> ImageFinding:
    from movl_monai.predict.dicom import ImageFinding
    from movl_monai.report.tasks import task_named

    calibrated, grades = row.get("calibrated") or [None], row.get("prediction_set")
    is_calibrated = None not in calibrated
    ordered, names = task_named(model.task).ordered, model.class_names
    values = calibrated if is_calibrated else row.get("probabilities") or ()
    calls, number = row.get("positive"), row.get("value")
    return ImageFinding(
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        frame=frame,
        predicted=row.get("predicted", ""),
        probabilities=dict(zip(names, values, strict=True)) if values else {},
        calibrated=is_calibrated,
        outside=row.get("outside"),
        abstained=row.get("abstain"),
        presence={} if calls is None else dict(zip(names, calls, strict=True)),
        thresholds={} if calls is None else _thresholds(model),
        number=None if number is None else (names[0], number, row.get("interval_low"), row.get("interval_high")),
        is_grade=ordered,
        grades=(grades[0], grades[-1]) if ordered and grades else None,
    )


def _thresholds(model: Model) -> dict[str, float]:
    """Return the probability from which each finding is positive; one without a threshold is left out."""
    if model.trust is None:
        return dict.fromkeys(model.class_names, 0.5)
    pairs = zip(model.class_names, model.trust.findings, strict=True)
    return {name: record.threshold for name, record in pairs if record.threshold is not None}


@register
class SegmentationObject(_CodedOutput):
    """Mask of a case, see :func:`~movl_monai.predict.dicom.segmentation_object`."""

    name, tasks, folders, series_offset = "seg", ("segmentation",), ("seg",), 902

    def segmented(self, case: SegmentedCase, row: Row) -> list[str]:
        """Write the object on the frames of the source."""
        from movl_monai.predict.dicom import segmentation_object

        frames = self.job.frames(case)
        if frames is None:
            raise UnwritableError("not_dicom")
        made = segmentation_object(
            frames.classes,
            [self.job.header(file) for file in frames.files],
            class_names=self.job.model.class_names,
            origin=self.origin(),
            stamp=self.stamp(),
            codes_of=self.codes,
        )
        return self.save(made)


@register
class SecondaryCapture(_DicomOutput):
    """Pictures for human readers, see :func:`~movl_monai.predict.dicom.secondary_capture`."""

    name, folders, series_offset = "sc", ("sc",), 903

    def draw(self, picture: Picture) -> list[str]:
        """Write the picture as a secondary capture; it carries the name of the patient in any case."""
        from movl_monai.predict.dicom import secondary_capture

        if picture.place is None or picture.case not in self.job.series:
            raise UnwritableError("not_dicom")
        file, frame = picture.place
        capture = secondary_capture(
            picture.pixels(),
            self.job.header(file),
            origin=self.origin(),
            stamp=self.stamp(),
            frame=frame,
            instance_number=picture.number,
        )
        return self.save(capture)


@register
class NiftiMasks(Output):
    """Masks of volumes."""

    name, tasks, folders = "nifti", ("segmentation",), ("masks",)

    def segmented(self, case: SegmentedCase, row: Row) -> list[str]:
        """Write the mask of a volume; images have none."""
        if not case.is_volume:
            return []
        slices = {int(item["frame"]): plane for item, plane in zip(case.items, case.planes, strict=True)}
        source, axis = case.items[0]["image"], case.record["slice_axis"]
        path = self.job.masks.write_volume(case.id, slices, source=source, axis=axis)
        return [f"masks/{path.name}"]


@register
class PngPictures(Output):
    """Masks of images, and pictures."""

    name, folders = "png", ("masks", "pictures")

    def segmented(self, case: SegmentedCase, row: Row) -> list[str]:
        """Write the mask of an image; those of volumes are NIfTI files."""
        if case.is_volume:
            return []
        ids = [item["id"] for item in case.items]
        for name, plane in zip(ids, case.planes, strict=True):
            self.job.masks.write_image(name, plane)
        return [f"masks/{name}.png" for name in ids]

    def draw(self, picture: Picture) -> list[str]:
        """Write a picture, unless its image may show a name."""
        from PIL import Image

        if picture.place is not None and picture.case in self.job.series and self.job.may_show_names(picture.place[0]):
            raise UnwritableError("shows_names")
        stream = io.BytesIO()
        Image.fromarray(picture.pixels()).save(stream, format="PNG")
        write_atomically(self.job.folder / "pictures" / f"{picture.name}.png", stream.getvalue())
        return [f"pictures/{picture.name}.png"]
