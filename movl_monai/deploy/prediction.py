"""Predict chosen files once, and write the result in several forms; independent of the SDK."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from movl_monai.data import IdMap
from movl_monai.deploy.outcome import LeftOut
from movl_monai.errors import ConfigError, DataError
from movl_monai.evaluation.file_table import write_file_table
from movl_monai.evaluation.rows import OK, failed_row
from movl_monai.predict.batches import Item, make_units
from movl_monai.predict.compute import Computer, choose_batch_size
from movl_monai.predict.journal import started_at
from movl_monai.predict.listing import Listed, list_images
from movl_monai.predict.loader import Decoding, load_units
from movl_monai.predict.model import Model, Task, open_model
from movl_monai.predict.outputs import check_outputs
from movl_monai.predict.tasks import SegmentedCase, worker_for
from movl_monai.predict.writing import Job, Writer

__all__ = ["NotWrittenError", "Prediction", "find_model", "open_for", "predict_files", "write_outputs"]

_SUFFIXES = (".ts", ".onnx", ".pt2")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Prediction of the files of one or more series.

    Args:
        model: model that predicted.
        listed: images and skipped files.
        rows: one row per image, or per segmented image or volume, as `movl-monai predict` writes them: ``predicted``
            (name of the class), ``probabilities``, ``calibrated``, ``outside``, ``abstain``, ``prediction_set``. Files
            and studies that are not predicted have a row with ``reason``.
        images: classified images with their rows.
        cases: segmented images and volumes with their rows.
        started: time stamp of the outputs, in seconds.
    """

    model: Model
    listed: Listed
    rows: list[dict[str, Any]]
    images: list[tuple[Item, dict[str, Any]]]
    cases: list[tuple[SegmentedCase, dict[str, Any]]]
    started: int


class NotWrittenError(DataError):
    """Some outputs could not be written; the others were.

    Args:
        problems: number of failures, by output and reason.
        files: files that were written.
    """

    def __init__(self, problems: Mapping[str, int], files: Sequence[str]) -> None:
        self.problems, self.files = dict(problems), list(files)
        said = ", ".join(f"{problem} {count}" for problem, count in self.problems.items())
        super().__init__(
            f"Not all outputs could be written ({said}): not_dicom says that the source is no DICOM file, unfit_source "
            "that it lacks what the object needs, such as UIDs or a place in the patient, irregular_spacing that no "
            "affine of NIfTI places its slices (take seg)."
        )


class _Keeper:
    """Keep predictions for later writers."""

    def __init__(self) -> None:
        self.images: list[tuple[Item, dict[str, Any]]] = []
        self.cases: list[tuple[SegmentedCase, dict[str, Any]]] = []

    def classified(self, item: Item, row: dict[str, Any]) -> dict[str, Any]:
        self.images.append((item, row))
        return row

    def segmented(self, case: SegmentedCase, row: dict[str, Any]) -> dict[str, Any]:
        self.cases.append((case, row))
        return row


def find_model(path: str | Path) -> Path:
    """Return the exported file at a path: the path itself, or the only exported file in an application's model folder.

    Raises:
        ConfigError: if there is none, or several.
    """
    given = Path(path)
    if not given.is_dir() or any((given / name).is_file() for name in ("run.json", "models/run.json")):
        return given
    found = sorted(one for one in given.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
    if len(found) != 1:
        raise ConfigError(
            f"The model folder must hold one exported file ({', '.join(_SUFFIXES)}), found {len(found)}; give the file "
            "that `movl-monai export` wrote with -m."
        )
    return found[0]


def open_for(path: str | Path, *, task: Task, bundle: str | None = None) -> Model:
    """Open the model of an application.

    Args:
        path: see :func:`find_model`.
        task: required task.
        bundle: name of the bundle that the model must come from; None accepts any.

    Raises:
        ConfigError: if there is no model, or one for another task or from another bundle.
        ExportError: if the file is damaged or no exported model.
    """
    model = open_model(find_model(path), task=task)
    if bundle is not None and model.facts.name != bundle:
        raise ConfigError(
            f"The model is of the bundle {model.facts.name}, this application is for {bundle}; give a model of "
            f"{bundle}, or start the application of {model.facts.name}."
        )
    return model


def predict_files(
    model: Model,
    files: Sequence[str | Path],
    *,
    folder: Path,
    batch_size: int | None = None,
    num_workers: int = 0,
    left_out: Sequence[LeftOut] = (),
    started: int | None = None,
) -> Prediction:
    """Predict files as `movl-monai predict` does: with the same listing, preprocessing, network and trust record.

    Args:
        model: model to use.
        files: files of the chosen series.
        folder: folder of the outputs; its ``local/id_map.json`` and ``local/files.csv`` map ids back to files.
        batch_size: number of images that are computed at once; None chooses by the free memory.
        num_workers: number of processes that decode; 0 decodes in this one.
        left_out: files and studies that should have been predicted but were not chosen; each gets a row.
        started: time stamp of the outputs, in seconds; None takes the current time, or SOURCE_DATE_EPOCH.

    Raises:
        DataError: if no file could be predicted; the message names the reasons. If only some failed, they have rows
            with their reasons instead.
        MovlError: if the model gives non-finite numbers, or the memory is too small.
    """
    listed = _listed(model, files, folder, left_out)
    size = batch_size or (1 if len(listed.items) == 1 else choose_batch_size(model, model.image_size))
    keeper = _Keeper()
    worker = worker_for(model, Computer(model), keeper)
    rows = [failed_row(file["id"], file["reason"], file["detail"]) for file in listed.skipped]
    units = make_units(listed.items, size, by_case=model.task == "segmentation")
    for unit, items, decoded, is_last in load_units(
        units, model.preprocessing, batch_size=size, decoding=Decoding(num_workers)
    ):
        worker.add(items, decoded)
        if is_last:
            rows += worker.finish(unit)
    if not any(row["status"] == OK for row in rows):
        reasons = Counter(f"{row['reason']} ({row['detail']})" if row["detail"] else row["reason"] for row in rows)
        raise DataError(
            f"None of the {len(files)} files of the series could be predicted: "
            f"{'; '.join(f'{count} x {reason}' for reason, count in reasons.most_common())}."
        )
    return Prediction(
        model=model,
        listed=listed,
        rows=rows,
        images=keeper.images,
        cases=keeper.cases,
        started=started_at() if started is None else started,
    )


def _listed(model: Model, files: Sequence[str | Path], folder: Path, left_out: Sequence[LeftOut]) -> Listed:
    """List the files through a temporary manifest, which is deleted because its paths identify patients."""
    id_map = IdMap(folder / "local" / "id_map.json")
    skipped = [{"id": _id_of(one, id_map), "reason": one.reason, "detail": ""} for one in left_out]
    with tempfile.TemporaryDirectory(prefix="movl-deploy-") as temporary:  # readable by its owner only
        manifest = Path(temporary) / "files.csv"
        with manifest.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path"])
            writer.writerows([str(Path(file).absolute())] for file in files)
        listed = list_images(manifest, id_map=id_map, volumes=model.task == "segmentation", slice_axis=model.slice_axis)
    listed = replace(listed, skipped=[*listed.skipped, *skipped])
    write_file_table(folder, listed.places(id_map, by_case=model.task == "segmentation"))
    return listed


def _id_of(left_out: LeftOut, id_map: IdMap) -> str:
    """Return the id of a file, or of a study; the id of a study maps to the folder with its first file."""
    path = left_out.path.absolute()
    name = f"/study {id_map.salter.short('study', left_out.study)}" if left_out.study else ""
    return id_map.add(f"{path}{name}", path=path)


def write_outputs(
    prediction: Prediction,
    kinds: Sequence[str],
    *,
    folder: Path,
    codes: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Write outputs of a prediction.

    Args:
        prediction: prediction from :func:`predict_files`.
        kinds: names of :data:`movl_monai.predict.outputs.OUTPUTS` that the task has.
        folder: folder of the outputs.
        codes: codes of classes, by name: (value, scheme designator, meaning).

    Returns:
        the files, relative to ``folder``.

    Raises:
        NotWrittenError: if an object cannot be derived from its source; the others are written nevertheless.
        ConfigError: if an output is not available for the task.
    """
    model, listed = prediction.model, prediction.listed
    job = Job(model=model, folder=folder, series=listed.series, started=prediction.started, codes=codes)
    writer = Writer(job, check_outputs(kinds, model.task))
    done = {row["id"]: row for row in prediction.rows}
    done |= {row["id"]: writer.classified(item, row) for item, row in prediction.images}
    done |= {row["id"]: writer.segmented(case, row) for case, row in prediction.cases}
    rows = writer.finish(listed, list(done.values()))
    files = list(dict.fromkeys(name for row in rows for name in row.get("files", ())))
    files += writer.write_tables(rows)
    if problems := Counter(problem for row in rows for problem in row.get("not_written", ())):
        raise NotWrittenError(dict(problems.most_common()), files)
    return files
