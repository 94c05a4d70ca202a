"""Predict chosen files once, and write the result in several forms; nothing here needs the SDK."""

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
from movl_monai.evaluation.files import write_atomically
from movl_monai.evaluation.rows import OK, failed_row, results_csv
from movl_monai.predict.batches import Item, make_units
from movl_monai.predict.compute import Computer, choose_batch_size
from movl_monai.predict.journal import started_at
from movl_monai.predict.listing import Listed, list_images
from movl_monai.predict.loader import Decoding, load_units
from movl_monai.predict.model import Model, Task, open_model
from movl_monai.predict.outputs import Outputs
from movl_monai.predict.tasks import SegmentedCase, worker_for

__all__ = ["NotWrittenError", "Prediction", "find_model", "open_for", "predict_files", "write_outputs", "write_table"]

_SUFFIXES = (".ts", ".onnx", ".pt2")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was found in the files of one or more series.

    Args:
        model: what predicted.
        listed: the images.
        rows: one for each image, or each image and volume that was segmented, as `movl-monai predict` writes them:
            ``predicted`` (name of the class), ``probabilities``, ``calibrated``, ``outside``, ``abstain``,
            ``prediction_set``; ``reason`` where an image, or a file or study that was left out, is not predicted.
        images: classified images with their rows.
        cases: segmented images and volumes with their rows.
        started: the time that outputs carry, in seconds.
    """

    model: Model
    listed: Listed
    rows: list[dict[str, Any]]
    images: list[tuple[Item, dict[str, Any]]]
    cases: list[tuple[SegmentedCase, dict[str, Any]]]
    started: int


class NotWrittenError(DataError):
    """Some outputs could not be written, the others are.

    Args:
        problems: how many, by output and reason.
        files: that were written.
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
    """Keeps what was predicted for whoever writes it."""

    def __init__(self) -> None:
        self.images: list[tuple[Item, dict[str, Any]]] = []
        self.cases: list[tuple[SegmentedCase, dict[str, Any]]] = []

    def classified(self, item: Item, row: dict[str, Any]) -> None:
        self.images.append((item, row))

    def segmented(self, case: SegmentedCase, row: dict[str, Any]) -> None:
        self.cases.append((case, row))


def find_model(path: str | Path) -> Path:
    """The exported file that a path means: itself, or the only one in the folder, as a packaged application has it.

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
        task: what it must be for.
        bundle: name of the bundle that it must come from; None takes any.

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
    """Predict files as `movl-monai predict` does: the same listing, preprocessing, network and trust record.

    Args:
        model: the model.
        files: of the chosen series.
        folder: of the outputs; ``local/id_map.json`` and ``local/files.csv`` in it lead from ids back to files.
        batch_size: images that are computed at once; None chooses by the free memory.
        num_workers: processes that decode; 0 decodes in this one.
        left_out: files and studies that were not chosen and should have been; each gets a row.
        started: the time that outputs carry, in seconds; None takes now, or SOURCE_DATE_EPOCH.

    Raises:
        DataError: if none of the files could be predicted; the reasons are named. Where some could, the others are rows
            with their reason.
        MovlError: if the model gives no finite numbers, or the memory is too small.
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
    """List the files through a manifest that is gone afterwards, as its paths identify."""
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
    """The id of a file; of a study it leads to the folder in which the study begins."""
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
    """Write DICOM objects, masks or pictures of a prediction.

    Args:
        prediction: of :func:`predict_files`.
        kinds: of "sr", "seg", "sc", "nifti", "png", what the task has.
        folder: where to.
        codes: codes of classes, by name: (value, scheme designator, meaning).

    Returns:
        the files, relative to ``folder``.

    Raises:
        NotWrittenError: if an object cannot be derived from its source; the others are written nevertheless.
        ConfigError: if the task does not have an output.
    """
    from movl_monai.predict.kinds import check_kinds

    model, listed = prediction.model, prediction.listed
    sink = Outputs(
        model, check_kinds(kinds, model.task), folder, listed.series, started=prediction.started, codes=codes
    )
    done = {row["id"]: row for row in prediction.rows}
    for item, row in prediction.images:
        done[row["id"]] = sink.classified(item, row) or row
    for case, row in prediction.cases:
        done[row["id"]] = sink.segmented(case, row) or row
    rows = sink.finish(listed, list(done.values()))
    files = list(dict.fromkeys(name for row in rows for name in row.get("files", ())))
    if problems := Counter(problem for row in rows for problem in row.get("not_written", ())):
        raise NotWrittenError(dict(problems.most_common()), files)
    return files


def write_table(prediction: Prediction, *, folder: Path) -> str:
    """Write ``predictions.csv``, which names images by salted ids; returns the name."""
    text = results_csv(prediction.rows, prediction.model.class_names, task=prediction.model.task)
    write_atomically(folder / "predictions.csv", text.encode())
    return "predictions.csv"
