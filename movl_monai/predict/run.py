"""Predict all images of a source and write the outputs; an interrupted prediction resumes."""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from movl_monai.data import IdMap
from movl_monai.data.series import HARMLESS
from movl_monai.errors import ConfigError
from movl_monai.evaluation.rows import FAILED, SKIPPED, failed_row, recordable
from movl_monai.files import FILE_TABLE, clear_leftovers, started_at, write_atomically, write_file_table
from movl_monai.predict.agreement import agreement_csv, agreement_text, compare_labels
from movl_monai.predict.job import Job
from movl_monai.predict.journal import Journal, Writer
from movl_monai.predict.listing import Listed, Source, list_images
from movl_monai.predict.loader import Decoding, Unit, load_units, make_units, plan_decoding
from movl_monai.predict.model import Model, open_model
from movl_monai.predict.outputs import OUTPUTS, check_outputs, check_outside, output_folders
from movl_monai.predict.tasks import Computer, Sink, choose_batch_size, worker_for
from movl_monai.predict.world import World, join_world
from movl_monai.runs.output_dir import check_output_dir

__all__ = ["Summary", "list_source", "predict", "predict_units", "skipped_rows", "summarize", "work_units"]

Row = dict[str, Any]
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of a prediction.

    Args:
        out: folder of the outputs.
        rows: rows of the tables.
        predicted: number of predicted images or cases.
        failed: number of files and cases that should have been predicted and were not.
        reasons: number of unpredicted files per reason, including harmless reasons.
        outside: number flagged as out-of-distribution; None if unknown.
        abstained: number of abstentions; None if unknown.
        resumed: number of rows from an earlier run.
        not_written: number of outputs that could not be written, by output and reason.
        flags: number of images and cases per flag.
        agreement: comparison with the labels of a list, see :func:`movl_monai.predict.agreement.compare_labels`.
        remarks: lines on splits and labels of a list.
    """

    out: Path
    rows: list[dict[str, Any]]
    predicted: int
    failed: int
    reasons: dict[str, int]
    outside: int | None
    abstained: int | None
    resumed: int = 0
    not_written: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    agreement: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return a few lines for people to read."""
        lines = [f"Predicted {self.predicted}" + (f", {self.resumed} of them earlier" if self.resumed else "") + "."]
        if self.outside is not None:
            lines.append(f"{self.outside} are outside of what this model was trained on.")
        if self.abstained is not None:
            lines.append(f"For {self.abstained} the model abstains.")
        if self.reasons:
            listed = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
            lines.append(f"Not predicted: {listed}.")
        if self.flags:
            lines.append(f"Flagged: {', '.join(f'{flag} {count}' for flag, count in self.flags.items())}.")
        if self.not_written:
            listed = ", ".join(f"{what} {count}" for what, count in self.not_written.items())
            lines.append(f"Not written: {listed}.")
        return "\n".join([*lines, *self.remarks, f"Outputs: {self.out}"])


def summarize(rows: list[dict[str, Any]], *, out: Path, resumed: int) -> Summary:
    """Count the rows of a prediction."""
    done = [row for row in rows if row["status"] == "ok"]
    others = [row["reason"] for row in rows if row["status"] != "ok"]

    def count(name: str) -> int | None:
        values = [row.get(name) for row in done if row.get(name) is not None]
        return sum(map(bool, values)) if values else None

    return Summary(
        out=out,
        rows=rows,
        predicted=len(done),
        failed=sum(reason not in HARMLESS for reason in others),
        reasons=dict(Counter(others).most_common()),
        outside=count("outside"),
        abstained=count("abstain"),
        resumed=resumed,
        not_written=dict(Counter(what for row in done for what in row.get("not_written", ())).most_common()),
        flags=dict(Counter(flag for row in done for flag in row.get("flags", ())).most_common()),
    )


def predict(
    model: str | os.PathLike[str] | Model,
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    outputs: Sequence[str] = ("csv", "json"),
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str | torch.device | None = None,
    modalities: Sequence[str] = (),
    series: Literal["all", "one"] = "all",
    overrides: Mapping[str, Any] | None = None,
    bundle_dir: str | os.PathLike[str] | None = None,
    trust: bool = False,
    codes: Mapping[str, Sequence[str]] | None = None,
    paths: bool = False,
    split: str | None = None,
    progress: bool | None = None,
) -> Summary | None:
    """Predict images, slices and volumes.

    Progress is recorded. The same call resumes an interrupted prediction and ends with the same files.

    Args:
        model: an open model, or a path, see :func:`movl_monai.predict.model.open_model`.
        source: a folder, one file, or a manifest; see :func:`movl_monai.predict.listing.list_images`.
        out: folder for the outputs, not inside ``source``.
        outputs: names of :data:`movl_monai.predict.outputs.OUTPUTS`.
        batch_size: number of images that are computed at once; None chooses by the free memory.
        num_workers: number of processes that decode, 0 for none; None chooses, see
            :func:`movl_monai.predict.loader.plan_decoding`.
        device: device of a run; None takes a GPU if there is one.
        modalities: DICOM modalities to predict; () takes all.
        series: "all" series, or exactly "one" per study.
        overrides: ids of the run's config and their values.
        bundle_dir: the run's bundle.
        trust: see :func:`movl_monai.engines.open_run`.
        codes: codes of classes for DICOM objects, by name: (value, scheme designator, meaning).
        paths: put the paths of the files into the tables, relative to the source where they lie in it. Such tables
            stay on this machine.
        split: split of a list to predict; None takes all.
        progress: show a progress bar; None shows it on terminals only.

    Returns:
        the summary; None in all processes but the first.

    Raises:
        MovlError: if the model, the source or the output folder cannot be used, or the disk is full. An unreadable file
            of the source does not raise; it has a row with the reason.
    """
    folder = check_output_dir(check_outside(source, out))
    with join_world() as world:
        if not isinstance(model, Model):
            several = device is None and world.size > 1 and torch.cuda.is_available()
            where = f"cuda:{world.local_rank}" if several else device
            model = open_model(model, device=where, overrides=overrides, bundle_dir=bundle_dir, trust=trust)
        names = check_outputs(outputs, model.task)
        listed = _listed(world, model, source, folder, modalities=modalities, series=series, split=split)
        journal = _journal(world, folder, model, names, batch_size)
        with closing(journal):
            started = int(journal.fixed["started"])
            job = Job(model=model, folder=folder, series=listed.series, started=started, codes=codes)
            writer = Writer(job, names)
            resumed = _resume(model, listed, journal, writer, world, num_workers=num_workers, progress=progress)
            world.wait()
            if not world.is_first:
                return None
            journal.reload()
            rows = writer.finish(listed, _rows(listed, model, journal))
            _write_files(folder, rows)
            labels = {name: label for name, label in listed.labels.items() if label in model.class_names}
            writer.write_tables(_named(rows, labels, folder, Path(source) if paths else None))
        summary = summarize(rows, out=folder, resumed=resumed)
        return summary if model.per_pixel else _compared(summary, listed, model.class_names)


def predict_units(
    model: Model, units: Sequence[Unit], sink: Sink, *, batch_size: int, decoding: Decoding, progress: bool | None
) -> Iterator[tuple[Unit, list[Row]]]:
    """Compute units, and yield each with its rows.

    Args:
        model: model that predicts.
        units: units in the order of the computation.
        sink: receives each finished image and case.
        batch_size: number of images that are computed at once.
        decoding: processes that decode.
        progress: show a progress bar; None shows it on terminals only.
    """
    from tqdm import tqdm

    worker = worker_for(model, Computer(model), sink)
    batches = load_units(units, model.preprocessing, batch_size=batch_size, decoding=decoding)
    total = sum(len(unit.items) for unit in units)
    # disable=None makes tqdm show the bar on terminals only
    disable = None if progress is None else not progress
    with tqdm(total=total, desc="predict", unit="image", disable=disable) as bar:
        for unit, items, decoded, is_last in batches:
            worker.add(items, decoded)
            bar.update(len(items))
            if is_last:
                yield unit, worker.finish(unit)


def list_source(
    model: Model, source: Source, folder: Path, ids: IdMap, *, skipped: Sequence[dict[str, str]] = (), **selection: Any
) -> Listed:
    """List a source with :func:`list_images`, and write the table that maps ids to files.

    Args:
        model: model that predicts.
        source: a source, or chosen files.
        folder: folder of the outputs.
        ids: gives the ids.
        skipped: further skipped files.
        selection: of the series.
    """
    by_case = model.per_pixel
    listed = list_images(
        source, id_map=ids, volumes=by_case, slice_axis=model.slice_axis, units=model.units, **selection
    )
    listed.skipped.extend(skipped)
    write_file_table(folder, listed.places(ids, by_case=by_case))
    return listed


def skipped_rows(listed: Listed) -> list[Row]:
    """Return the rows of files that are not computed: skipped ones, and those that should have been images."""
    return [
        failed_row(file["id"], file["reason"], file["detail"], status=SKIPPED if file["reason"] in HARMLESS else FAILED)
        for file in listed.skipped
    ]


def _resume(
    model: Model,
    listed: Listed,
    journal: Journal,
    sink: Sink,
    world: World,
    *,
    num_workers: int | None,
    progress: bool | None,
) -> int:
    """Compute and record the unfinished units of this process, and return the number of items done before by all."""
    batch_size = int(journal.fixed["batch_size"])
    units = work_units(listed, model, batch_size)
    waiting = [unit for unit in units[world.rank :: world.size] if unit.key not in journal.done]
    resumed = sum(len(unit.items) for unit in units if unit.key in journal.done)
    decoding = plan_decoding(model.device, num_workers=num_workers, processes=world.local_size)
    shown = progress if world.is_first else False
    for unit, rows in predict_units(model, waiting, sink, batch_size=batch_size, decoding=decoding, progress=shown):
        journal.add(unit.key, [recordable(row) for row in rows])
    return resumed


def work_units(listed: Listed, model: Model, batch_size: int) -> list[Unit]:
    """Group listed images into pieces of work for a model; see :func:`movl_monai.predict.loader.make_units`."""
    return make_units(listed.items, batch_size, by_case=model.per_pixel, by_unit=model.units is not None)


def _listed(
    world: World,
    model: Model,
    source: str | os.PathLike[str],
    folder: Path,
    **selection: Any,
) -> Listed:
    listed = None
    if world.is_first:
        clear_leftovers(folder, output_folders())
        ids = IdMap(folder / "local" / "id_map.json")
        listed = list_source(model, source, folder, ids, **selection)
        _LOGGER.info("Found %d images; %d files are none.", len(listed.items), len(listed.skipped))
    return world.share(listed)


def _journal(world: World, folder: Path, model: Model, names: Sequence[str], batch_size: int | None) -> Journal:
    outputs = [name for name in names if OUTPUTS[name].is_of_units()]
    settings = {"model": model.facts.fingerprint, "outputs": outputs}

    def first() -> dict[str, int]:
        size = choose_batch_size(model, model.image_size) if batch_size is None else batch_size
        return {"batch_size": size, "started": started_at()}

    # the first process fixes the values that the others read
    journal = Journal(folder / "local", settings=settings, first=first) if world.is_first else None
    world.wait()
    journal = journal or Journal(folder / "local", settings=settings, rank=world.rank)
    if batch_size not in (None, journal.fixed["batch_size"]):
        journal.close()
        raise ConfigError(
            f"These predictions were begun with --batch_size {journal.fixed['batch_size']}, got {batch_size}; give the "
            "same or none, so that all images are computed alike, or choose another --output_dir."
        )
    return journal


def _rows(listed: Listed, model: Model, journal: Journal) -> list[dict[str, Any]]:
    units = work_units(listed, model, int(journal.fixed["batch_size"]))
    return [row for unit in units for row in journal.done[unit.key]] + skipped_rows(listed)


def _named(rows: list[Row], labels: Mapping[str, str], folder: Path, source: Path | None) -> list[Row]:
    """Return rows with their labels, and with the path of the file if a source is given."""
    added: dict[str, Row] = {row["id"]: {} for row in rows}
    if source is not None:
        root = (source if source.is_dir() else source.parent).absolute()
        with (folder / FILE_TABLE).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for line in csv.DictReader(stream):
                path = Path(line["path"])
                shown = path.relative_to(root) if path.is_relative_to(root) else path
                added.get(line["id"], {}).setdefault("path", shown.as_posix())
    for name, label in labels.items():
        added.get(name, {})["label"] = label
    return [{**row, **added[row["id"]]} for row in rows]


def _compared(summary: Summary, listed: Listed, class_names: Sequence[str]) -> Summary:
    """Return the summary with its comparison to the labels of a list, and write the confusion matrices.

    Findings and numbers are not compared here; an evaluation does.
    """
    if not any("predicted" in row for row in summary.rows):
        return summary
    found = compare_labels(summary.rows, listed.labels, listed.splits, class_names)
    remarks = agreement_text(found, listed.splits, class_names)
    unknown = sum(label not in class_names for label in listed.labels.values())
    if unknown:
        remarks.append(f"{unknown} labels of the list are none of the model's classes: {', '.join(class_names)}.")
    if found:
        write_atomically(summary.out / "confusion.csv", agreement_csv(found, class_names).encode())
    return replace(summary, agreement=found, remarks=remarks)


def _write_files(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the ids and their output files; DICOM files are named by UIDs, so this list stays on this machine."""
    lines = [f"{row['id']},{name}\n" for row in rows for name in row.get("files", ())]
    if lines:
        content = ("id,file\n" + "".join(lines)).encode()
        write_atomically(folder / "local" / "outputs.csv", content, private=True)
