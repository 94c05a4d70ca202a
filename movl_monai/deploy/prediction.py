"""Prediction of chosen files in several forms, and failures without patient data; independent of the SDK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.data import IdMap
from movl_monai.data.series import HARMLESS
from movl_monai.errors import EXIT_SOME_FAILED, ConfigError, DataError, MovlError
from movl_monai.evaluation.rows import OK, failed_row
from movl_monai.files import started_at
from movl_monai.predict.job import Job
from movl_monai.predict.journal import Writer
from movl_monai.predict.listing import Listed
from movl_monai.predict.loader import Decoding, Item
from movl_monai.predict.model import Model, open_model
from movl_monai.predict.outputs import check_outputs
from movl_monai.predict.run import list_source, predict_units, work_units
from movl_monai.predict.tasks import SegmentedCase, choose_batch_size
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.errors import MedicalImageError
from movl_monai.report.tasks import task_named

__all__ = [
    "LeftOut",
    "NotWrittenError",
    "OperatorError",
    "Outcome",
    "Prediction",
    "clean_errors",
    "find_model",
    "open_for",
    "outcome_of",
    "predict_files",
    "write_outputs",
]

_SUFFIXES = (".ts", ".onnx", ".pt2")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file or study that is not predicted. It identifies patients and stays in memory.

    Args:
        path: path of the file, or of the folder with the study's first file.
        reason: code of :data:`movl_monai.data.series.REASONS` or :data:`movl_monai.readers.errors.REASONS`.
        study: StudyInstanceUID of a study; "" for a file.
    """

    path: Path
    reason: str
    study: str = ""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Prediction of the files of one or more series.

    Args:
        model: model that predicted.
        listed: images and skipped files.
        rows: one row per image, or per segmented image or volume, as `movl-monai predict` writes them: ``predicted``
            (name of the class), ``probabilities``, ``calibrated``, ``outside``, ``abstain``, ``prediction_set``; of
            other tasks see their ``answers`` (:mod:`movl_monai.report.tasks`). Files and studies that are not predicted
            have a row with ``reason``.
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


def open_for(path: str | Path, *, task: str, bundle: str | None = None) -> Model:
    """Open the model of an application.

    Args:
        path: see :func:`find_model`.
        task: a task like that of the model: of whole images, or per pixel.
        bundle: name of the bundle that the model must come from; None accepts any.

    Raises:
        ConfigError: if there is no model, or one for another task or from another bundle.
        ExportError: if the file is damaged or no exported model.
    """
    model = open_model(find_model(path))
    if model.per_pixel != task_named(task).per_pixel:
        raise ConfigError(
            f"{find_model(path).name} is for {model.task}, wanted was {task}; give the run of another bundle."
        )
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
    ids = IdMap(folder / "local" / "id_map.json")
    skipped = [{"id": _id_of(one, ids), "reason": one.reason, "detail": ""} for one in left_out]
    listed = list_source(model, files, folder, ids, skipped=skipped)
    size = batch_size or (1 if len(listed.items) == 1 else choose_batch_size(model, model.image_size))
    units = work_units(listed, model, size)
    keeper = _Keeper()
    rows = [failed_row(file["id"], file["reason"], file["detail"]) for file in listed.skipped]
    for _, found in predict_units(
        model, units, keeper, batch_size=size, decoding=Decoding(num_workers), progress=False
    ):
        rows += found
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


class Outcome:
    """Outcome of an application: predicted studies, failures, and outputs that could not be written.

    Attributes:
        left_out: files and studies that never reach the network; the inference operator writes a row for each.
        started: time stamp of the outputs, in seconds; None takes that of the prediction.
        text: a few sentences about the failures, "" if there are none.
        exit_code: 0, or 4 if something failed and the rest was predicted, as in `movl-monai predict`.

    Example:
        >>> outcome = Outcome()
        >>> outcome.found_studies(["1.2.1", "1.2.2"])
        >>> outcome.leave_out(Path("a"), "several_series", study="1.2.1")
        >>> outcome.text, outcome.exit_code
        ('1 of 2 studies could not be predicted.', 4)
    """

    def __init__(self) -> None:
        self.left_out: list[LeftOut] = []
        self.started: int | None = None
        self._found: set[str] = set()
        self._predicted: set[str] = set()
        self._failed_images: Counter[str] = Counter()
        self._not_written: Counter[str] = Counter()
        self._tables: list[str] = []

    def found_studies(self, studies: Iterable[str]) -> None:
        """Add the StudyInstanceUIDs of all images in the input."""
        self._found.update(studies)

    def leave_out(self, path: Path, reason: str, *, study: str = "") -> None:
        """Add a file or study that is not predicted, unless no prediction was expected for it."""
        if reason not in HARMLESS:
            self.left_out.append(LeftOut(path=path, reason=reason, study=study))

    def predicted(self, listed: Listed, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the listed files and the rows of a prediction."""
        cases = {item.get("unit", item["id"]): item["case"] for item in listed.items}
        scans = listed.series
        for row in rows:
            scan = scans.get(cases.get(row["id"], row["id"]))
            if row["status"] == OK:
                self._predicted.add("" if scan is None else scan.study)
            elif scan is not None:
                self._failed_images[scan.study] += 1

    def not_written(self, problems: Mapping[str, int]) -> None:
        """Add outputs that could not be written, counted by output and reason."""
        self._not_written.update(problems)

    def table(self, name: str) -> None:
        """Add the name of a file whose rows hold the reasons."""
        self._tables.append(name)

    @property
    def text(self) -> str:
        """A few sentences about the failures."""
        failed = {one.study for one in self.left_out if one.study} | (set(self._failed_images) - self._predicted)
        images = sum(count for study, count in self._failed_images.items() if study not in failed)
        files = sum(not one.study for one in self.left_out)
        said = []
        if failed:
            said.append(f"{len(failed)} of {len(self._found | failed)} studies could not be predicted.")
        if images:
            said.append(f"{images} {_of('image', images)} of the others could not be predicted.")
        if files:
            said.append(f"{files} {_of('file', files)} could not be read.")
        if said and self._tables:
            said.append(f"Each has a row with its reason in {', '.join(self._tables)}.")
        if self._not_written:
            listed = ", ".join(f"{what} {count}" for what, count in self._not_written.most_common())
            said.append(f"Not written: {listed}.")
        return " ".join(said)

    @property
    def exit_code(self) -> int:
        """Exit code, 0 or 4."""
        return EXIT_SOME_FAILED if self.text else 0


def outcome_of(fragment: Any) -> Outcome:
    """The application's outcome, or a throw-away one."""
    found = getattr(fragment, "outcome", None)
    return found if isinstance(found, Outcome) else Outcome()


def _of(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


class OperatorError(MovlError):
    """An operator failed in an unexpected way."""


@contextmanager
def clean_errors(doing: str) -> Iterator[None]:
    """Reduce unexpected errors to their type: Holoscan logs error texts, which may quote patient data.

    The project's own errors pass unchanged. Warnings of pydicom and highdicom quote values of the files too, and are
    muted.

    Args:
        doing: the attempted action, for the message.

    Raises:
        OperatorError: in place of any error of another kind.

    Example:
        >>> with clean_errors("read the study"):
        ...     {}["DOE^JANE"]
        Traceback (most recent call last):
        movl_monai.deploy.prediction.OperatorError: Could not read the study: KeyError.
    """
    try:
        with quiet():
            yield
    except (MovlError, MedicalImageError):
        raise
    except OSError as error:
        raise OperatorError(f"Could not {doing}: {error.strerror or type(error).__name__}.") from None
    except Exception as error:
        raise OperatorError(f"Could not {doing}: {type(error).__name__}.") from None
