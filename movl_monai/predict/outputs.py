"""Write outputs other than tables: masks, DICOM objects and pictures."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from movl_monai.answers import no_answer
from movl_monai.data.faults import fault_of
from movl_monai.data.series import SeriesScan
from movl_monai.evaluation.mask_files import IrregularSpacingError, MaskFiles
from movl_monai.evaluation.rows import OK
from movl_monai.files import write_atomically
from movl_monai.fonts import legible_names
from movl_monai.predict.batches import Item
from movl_monai.predict.listing import Listed
from movl_monai.predict.model import Model
from movl_monai.predict.sources import StoredFrames, headers_of, item_place, stored_frames
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.visible import may_show_names

if TYPE_CHECKING:
    from movl_monai.predict.dicom import ClassCodes, ImageFinding, Origin, Stamp

__all__ = ["FOLDERS", "Outputs"]

FOLDERS = (".", "local", "masks", "pictures", "sr", "seg", "sc")
"""Folders of the outputs."""

_SERIES_OFFSETS = {"sr": 901, "seg": 902, "sc": 903}
_NOT_DICOM, _SHOWS_NAMES = "not_dicom", "shows_names"


class Outputs:
    """Write the outputs of each image or case when it is done, and the reports at the end.

    DICOM files are named by their UIDs, all other files by salted ids. The row of a case lists the outputs that could
    not be written (``not_written``) and the written files (``files``; this list stays on this machine).

    Args:
        model: model that predicts.
        kinds: kinds of outputs, from :data:`movl_monai.predict.kinds.KINDS`.
        folder: folder of the outputs.
        series: DICOM series, by case.
        started: time stamp of the outputs, in seconds.
        codes: codes of classes, by name: (value, scheme designator, meaning).
    """

    def __init__(
        self,
        model: Model,
        kinds: frozenset[str],
        folder: Path,
        series: Mapping[str, SeriesScan],
        *,
        started: int,
        codes: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.kinds, self.folder, self.series, self.started = model, kinds, folder, series, started
        self.masks = MaskFiles(folder / "masks", class_names=model.class_names, mask_dtype=model.mask_dtype)
        self._codes: ClassCodes | None = None
        if kinds & {"sr", "seg"}:
            from movl_monai.predict.dicom import ClassCodes

            self._codes = ClassCodes(model.class_names, codes)

    @quiet()
    def classified(self, item: Item, row: dict[str, Any]) -> dict[str, Any] | None:
        """Write the picture of an image."""
        if not self.kinds & {"sc", "png"}:
            return None
        written = _Written()

        @cache
        def draw() -> np.ndarray:
            from movl_monai.predict.dicom import draw_text

            return draw_text(self._image(item), _said(row, self.model.class_names))

        if "png" in self.kinds:
            written.add("png", lambda: self._write_png(item["id"], draw, item["case"], item_place(item)))
        if "sc" in self.kinds:
            written.add("sc", lambda: self._write_capture(item["case"], draw, *item_place(item), number=1))
        return row | written.entries()

    @quiet()
    def segmented(self, case: SegmentedCase, row: dict[str, Any]) -> dict[str, Any] | None:
        """Write mask, segmentation object and pictures of a case."""
        written = _Written()
        if case.is_volume and "nifti" in self.kinds:
            written.add("nifti", lambda: [self._write_nifti(case)])
        if not case.is_volume and "png" in self.kinds:
            written.add("png", lambda: self._write_masks(case))
        if wanted := self.kinds & {"seg", "sc", "png"}:
            self._write_on_frames(case, written, sorted(wanted))
        return row | written.entries()

    def _write_on_frames(self, case: SegmentedCase, written: _Written, wanted: Sequence[str]) -> None:
        """Write the outputs on the frames of the source: segmentation object and pictures."""
        try:
            frames = stored_frames(case) if case.id in self.series else None
            planes = list(case.planes if frames is None else frames.classes)
        except Exception as error:
            written.fail(wanted, error)
            return
        if "seg" in wanted:
            written.add("seg", lambda: self._write_segmentation(frames))
        if {"sc", "png"} & {*wanted}:
            self._draw(case, frames, planes, written)

    @quiet()
    def finish(self, listed: Listed, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write one report per series, and return the rows with the written files added."""
        if "sr" not in self.kinds:
            return rows
        items = {item["id"]: item for item in listed.items}
        groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        result: list[dict[str, Any]] = []
        for row in rows:
            scan = self.series.get(items[row["id"]]["case"]) if row["id"] in items else None
            if scan is None:
                failed = _Written()
                failed.add("sr", _refuse_not_dicom)
                result.append(row | failed.entries(row) if row["status"] == OK else row)
            else:
                groups[scan.study, scan.series].append(row)
        for group in groups.values():
            result += self._report(group, items)
        order = {row["id"]: number for number, row in enumerate(rows)}
        return sorted(result, key=lambda row: order[row["id"]])

    def _report(self, rows: list[dict[str, Any]], items: Mapping[str, Item]) -> list[dict[str, Any]]:
        """Report on the images of a series. An image that no report can refer to is left out, and its row says so."""
        written = {row["id"]: _Written() for row in rows if row["status"] == OK}
        found = _Findings(self.model.class_names)
        for row in rows:
            if row["status"] == OK:
                written[row["id"]].add("sr", partial(found.add, row, *item_place(items[row["id"]])))
        reported = [one for one in written.values() if not one.problems]
        if reported:
            report = _Written()
            report.add("sr", lambda: [self._write_report(found, is_partial=len(reported) < len(rows))])
            for one in reported:
                one.files, one.problems = report.files, report.problems
        return [row | written[row["id"]].entries(row) if row["status"] == OK else row for row in rows]

    def _write_report(self, found: _Findings, *, is_partial: bool) -> str:
        from movl_monai.predict.dicom import ClassCodes, classification_report

        report = classification_report(
            list(found.findings.values()),
            list(found.sources.values()),
            origin=self._origin(),
            stamp=self._stamp("sr"),
            codes_of=self._codes or ClassCodes(self.model.class_names),
            is_partial=is_partial,
        )
        return self._write_dicom("sr", report)

    def _write_segmentation(self, frames: StoredFrames | None) -> list[str]:
        from movl_monai.predict.dicom import ClassCodes, segmentation_object

        if frames is None:
            return _refuse_not_dicom()
        made = segmentation_object(
            frames.classes,
            headers_of(frames.files),
            class_names=self.model.class_names,
            origin=self._origin(),
            stamp=self._stamp("seg"),
            codes_of=self._codes or ClassCodes(self.model.class_names),
        )
        return [self._write_dicom("seg", made)]

    def _write_masks(self, case: SegmentedCase) -> list[str]:
        ids = [item["id"] for item in case.items]
        for name, plane in zip(ids, case.planes, strict=True):
            self.masks.write_image(name, plane, spacing=None)
        return [f"masks/{name}.png" for name in ids]

    def _write_nifti(self, case: SegmentedCase) -> str:
        slices = {int(item["frame"]): plane for item, plane in zip(case.items, case.planes, strict=True)}
        source, axis = case.items[0]["image"], case.record["slice_axis"]
        path = self.masks.write_volume(case.id, slices, source=source, axis=axis, records=case.records)
        return f"masks/{path.name}"

    def _draw(
        self, case: SegmentedCase, frames: StoredFrames | None, planes: Sequence[np.ndarray], written: _Written
    ) -> None:
        """Write pictures of the frames with findings, or of the middle frame if there are none."""
        shown = [number for number, plane in enumerate(planes) if plane.any()] or [len(planes) // 2]
        lines = [*([] if any(plane.any() for plane in planes) else ["Nothing found."]), _USE]
        for position, number in enumerate(shown, start=1):
            place = None if frames is None else frames.place(number)
            draw = cache(partial(self._drawn, case, place, number, planes[number], lines))
            if "png" in self.kinds:
                name = case.id if len(planes) == 1 else f"{case.id}_{number:04d}"
                written.add("png", partial(self._write_png, name, draw, case.id, place))
            if "sc" in self.kinds:
                where = place or ("", None)
                written.add("sc", partial(self._write_capture, case.id, draw, *where, number=position))

    def _drawn(
        self,
        case: SegmentedCase,
        place: tuple[str, int | None] | None,
        number: int,
        plane: np.ndarray,
        lines: Sequence[str],
    ) -> np.ndarray:
        from movl_monai.predict.dicom import draw_classes

        image = self._image(case.items[number]) if place is None else self._frame(*place)
        return draw_classes(image, plane, self.model.class_names, lines)

    def _write_png(
        self, name: str, draw: Callable[[], np.ndarray], case: str, place: tuple[str, int | None] | None
    ) -> list[str]:
        """Write a picture, unless its image may show a name; captures carry the patient's name in any case."""
        from PIL import Image

        if place is not None and case in self.series and may_show_names(headers_of([place[0]])[0]):
            raise _ShowsNamesError
        stream = io.BytesIO()
        Image.fromarray(draw()).save(stream, format="PNG")
        write_atomically(self.folder / "pictures" / f"{name}.png", stream.getvalue())
        return [f"pictures/{name}.png"]

    def _write_capture(
        self, case: str, draw: Callable[[], np.ndarray], file: str, frame: int | None, *, number: int
    ) -> list[str]:
        from movl_monai.predict.dicom import secondary_capture

        if case not in self.series:
            return _refuse_not_dicom()
        capture = secondary_capture(
            draw(),
            headers_of([file])[0],
            origin=self._origin(),
            stamp=self._stamp("sc"),
            frame=frame,
            instance_number=number,
        )
        return [self._write_dicom("sc", capture)]

    def _write_dicom(self, kind: str, dataset: Any) -> str:
        from movl_monai.predict.dicom import as_bytes

        name = f"{kind}/{dataset.SOPInstanceUID}.dcm"
        write_atomically(self.folder / name, as_bytes(dataset), called=f"A DICOM object ({kind})")
        return name

    def _image(self, item: Item) -> np.ndarray:
        """Load an image as the model does, at its original size."""
        return np.asarray(self.model.preprocessing.transforms[0](dict(item))["image"])

    def _frame(self, file: str, frame: int | None) -> np.ndarray:
        item = {"image": file} if frame is None else {"image": file, "frame": frame}
        return self._image(item)

    def _origin(self) -> Origin:
        from movl_monai.predict.dicom import Origin

        facts = self.model.facts
        return Origin(
            name=facts.name,
            version=facts.version,
            fingerprint=facts.fingerprint,
            checkpoint_sha256=facts.checkpoint_sha256,
            backbone=facts.backbone,
        )

    def _stamp(self, kind: str) -> Stamp:
        from movl_monai.predict.dicom import Stamp

        return Stamp(seconds=self.started, series_offset=_SERIES_OFFSETS[kind])


_USE = "Research use only. Not a medical device; not for diagnosis."


class _Written:
    """Files written for a row, and the reasons why others could not be written."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.problems: dict[str, str] = {}

    def add(self, kind: str, write: Callable[[], list[str]]) -> None:
        """Write an output, or keep the reason of the failure; a full disk ends the run."""
        try:
            self.files += write()
        except Exception as error:
            self.fail([kind], error)

    def fail(self, kinds: Iterable[str], error: Exception) -> None:
        """Keep the reason why outputs could not be written.

        Raises:
            Exception: the error itself, if it must end the run.
        """
        from movl_monai.predict.dicom import DicomOutputError

        if isinstance(error, (_NotDicomError, _ShowsNamesError)):
            reason = _NOT_DICOM if isinstance(error, _NotDicomError) else _SHOWS_NAMES
        elif isinstance(error, IrregularSpacingError):
            reason = "irregular_spacing"
        else:
            reason = "unfit_source" if isinstance(error, DicomOutputError) else fault_of(error)[0]
        self.problems |= dict.fromkeys(kinds, reason)

    def entries(self, row: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the entries of a row, added to those that it already has."""
        earlier = row or {}
        problems = [*earlier.get("not_written", ()), *(f"{kind}:{why}" for kind, why in self.problems.items())]
        entries: dict[str, Any] = {"files": [*earlier.get("files", ()), *self.files]}
        return entries | ({"not_written": problems} if problems else {})


class _NotDicomError(Exception):
    """A DICOM object was requested for a file of another format."""


class _ShowsNamesError(Exception):
    """A picture was requested of an image that may show a name."""


def _refuse_not_dicom() -> list[str]:
    raise _NotDicomError


def _said(row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """Return the lines below an image: the answer, or the reason why there is none."""
    predicted = legible_names(class_names)[list(class_names).index(row["predicted"])]
    values = row.get("calibrated") or row["probabilities"]
    refusal = no_answer(outside=row.get("outside"), abstain=row.get("abstain"))
    if refusal:
        return [refusal, f"Raw output of the network, not to be relied on: {predicted} {max(values):.2f}", _USE]
    kind = "calibrated" if row.get("calibrated") else "not calibrated"
    return [f"Most probable: {predicted}, probability {max(values):.2f} ({kind})", _USE]


class _Findings:
    """Findings of a report and the headers of their images; copies of an image are reported once."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = class_names
        self.findings: dict[tuple[str, int | None], ImageFinding] = {}
        self.sources: dict[str, Any] = {}
        self._read: dict[str, Any] = {}

    def add(self, row: Mapping[str, Any], file: str, frame: int | None) -> list[str]:
        """Add the row of an image.

        Raises:
            DicomOutputError: if no object can refer to the image.
        """
        from movl_monai.predict.dicom import check_source

        if file not in self._read:
            (self._read[file],) = headers_of([file])
            check_source(self._read[file])
        header = self._read[file]
        finding = _finding(row, header, frame, self.class_names)
        self.sources.setdefault(finding.sop_instance_uid, header)
        self.findings.setdefault((finding.sop_instance_uid, frame), finding)
        return []


def _finding(row: Mapping[str, Any], header: Any, frame: int | None, class_names: Sequence[str]) -> ImageFinding:
    from movl_monai.predict.dicom import ImageFinding

    values = row.get("calibrated") or row["probabilities"]
    return ImageFinding(
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        frame=frame,
        predicted=row["predicted"],
        probabilities=dict(zip(class_names, values, strict=True)),
        calibrated=bool(row.get("calibrated")),
        outside=row.get("outside"),
        abstained=row.get("abstain"),
    )
