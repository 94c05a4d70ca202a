"""Tasks of reports: the file with the results of each image or case, and the figures that are compared."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.errors import MovlError
from movl_monai.metrics.intervals import bootstrap_weights
from movl_monai.metrics.stored.predictions import Predictions, read_predictions, sections
from movl_monai.metrics.weighted import WeightedFigure

__all__ = ["CLASSIFICATION", "GRADING", "SEGMENTATION", "Judged", "Task", "moved_offsets", "read_judged", "task_of"]

_SWEEPS = 20


def moved_offsets(labels: ArrayLike, logits: ArrayLike) -> np.ndarray:
    r"""Find the offsets that maximise balanced accuracy on the validation images.

    The predicted class is :math:`\arg\max_c z_c + b_c`. With two classes :math:`b_0 = 0` and :math:`-b_1` is a
    threshold on :math:`z_1 - z_0`; every threshold is tried. With more classes the offsets are moved in turn, each to
    its best value given the others, until no move gains. An offset moves only if balanced accuracy rises, to the
    nearest of equally good values, so that the trained threshold stays if none is better.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.

    Returns:
        Offsets (C,), all 0 if none is better. Classes without an image keep 0.

    Example:
        >>> moved_offsets([0, 0, 1, 1], [[0, -3], [0, -2], [0, -1.5], [0, 1]])
        array([0.  , 1.75])
    """
    truth, scores = np.asarray(labels), np.asarray(logits, dtype=np.float64)
    count = scores.shape[1]
    images = np.bincount(truth, minlength=count)
    weights = 1 / images[truth]
    offsets = np.zeros(count)
    movable = [index for index in range(1 if count == 2 else 0, count) if images[index]]
    for _ in range(_SWEEPS):
        moved = False
        for index in movable:
            best = _best_offset(truth, scores + offsets * (np.arange(count) != index), index, offsets[index], weights)
            moved |= best != offsets[index]
            offsets[index] = best
        if not moved or count == 2:
            break
    return offsets


def _best_offset(truth: np.ndarray, scores: np.ndarray, index: int, current: float, weights: np.ndarray) -> float:
    """Return the best offset of one class; the scores contain the offsets of the others."""
    others = np.where(np.arange(scores.shape[1]) == index, -np.inf, scores)
    # an image gets this class if the offset is above its margin
    margins = others.max(axis=1) - scores[:, index]
    order = np.argsort(margins, kind="stable")
    margins = margins[order]
    gained = np.concatenate([[0.0], np.cumsum((weights * (truth == index))[order])])
    lost = np.concatenate([[0.0], np.cumsum((weights * (others.argmax(axis=1) == truth))[order])])
    total = gained + lost[-1] - lost  # by the number of images below the offset
    ends = np.concatenate([[margins[0] - 1], (margins[1:] + margins[:-1]) / 2, [margins[-1] + 1]])
    cuts = np.concatenate([[True], margins[1:] > margins[:-1], [True]])
    now = total[np.searchsorted(margins, current)]
    gain = total[cuts].max() - now
    if gain < 1e-9:
        return current
    best = ends[cuts][total[cuts] > total[cuts].max() - 1e-9]
    return float(best[np.abs(best - current).argmin()])


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of report.

    Args:
        name: as in the report's ``task``.
        file: below ``evaluation``, with one row per image or case.
        reported: names of the figures that are taken over from ``report.json``.
        metrics: names of the figures that are compared, in the order of the table.
        main: the one that conclusions and pictures are about, in distribution.
        main_outside: the same for other domains.
        titles: of the figures, for readers.
        unit: name of one row of the file, in the plural.
    """

    name: str
    file: str
    reported: tuple[str, ...]
    metrics: tuple[str, ...]
    main: str
    main_outside: str
    titles: Mapping[str, str]
    unit: str

    def main_of(self, domain: str) -> str:
        """The main figure on a domain."""
        return self.main if domain == "id" else self.main_outside


_REPORTED = ("accuracy", "balanced_accuracy", "auroc")


_MOVED = "_moved"


CLASSIFICATION = Task(
    name="classification",
    file="predictions.csv",
    reported=_REPORTED,
    # a threshold that does not fit another scanner is no fault of the ranking
    metrics=("auroc", "balanced_accuracy", "balanced_accuracy_moved", "accuracy", "accuracy_moved"),
    main="balanced_accuracy",
    main_outside="auroc",
    titles={
        "auroc": "macro AUROC",
        "balanced_accuracy": "balanced accuracy",
        "balanced_accuracy_moved": "balanced accuracy, moved threshold",
        "accuracy": "accuracy",
        "accuracy_moved": "accuracy, moved threshold",
    },
    unit="images",
)


# classes that are grades: the figure that training selects by, with ``label_order: ordinal``
GRADING = replace(
    CLASSIFICATION,
    metrics=("quadratic_kappa", *CLASSIFICATION.metrics),
    main="quadratic_kappa",
    main_outside="quadratic_kappa",
    titles={"quadratic_kappa": "quadratic kappa", **CLASSIFICATION.titles},
)


SEGMENTATION = Task(
    name="segmentation",
    file="cases.csv",
    reported=("dice", "iou", "hd95"),
    metrics=("dice", "iou", "hd95"),
    main="dice",
    main_outside="dice",
    titles={"dice": "Dice", "iou": "IoU", "hd95": "HD95 (smaller is better)"},
    unit="cases",
)


def task_of(evaluation: Path, *, selected_by: str = "") -> Task:
    """Return the task of a folder with a report.

    Args:
        evaluation: the folder.
        selected_by: name of the validation figure that selected the state. Quadratic kappa means that the classes are
            grades.

    Raises:
        MovlError: if neither file is there.
    """
    for task in (SEGMENTATION, CLASSIFICATION):
        if (evaluation / task.file).is_file():
            return GRADING if task is CLASSIFICATION and "quadratic_kappa" in selected_by else task
    raise MovlError(
        f"The evaluation wrote neither {CLASSIFICATION.file} nor {SEGMENTATION.file} below output_dir, so that there "
        "is nothing to compare; check the handlers of evaluate.json."
    )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One network's results on the images or cases of one domain.

    Args:
        ids: salted ids, (N,).
        patients: patient of each; None where not known.
        truth: true classes, (N,), the same for all networks; empty where the file does not tell.
        predictions: of a classification.
        values: of a segmentation, each figure's value in each case, (N,), NaN for none.
        offsets: of a classification, those that move its thresholds, (C,); None without validation images.
    """

    ids: list[str]
    patients: list[str | None]
    truth: list[int]
    predictions: Predictions | None = None
    values: Mapping[str, np.ndarray] | None = None
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def groups(self) -> np.ndarray:
        """Number of each row's patient; one without is a patient of its own."""
        numbers: dict[object, int] = {}
        pairs = zip(self.patients, self.ids, strict=True)
        return np.array([numbers.setdefault(patient or ("image", name), len(numbers)) for patient, name in pairs])

    def draws(self, groups: np.ndarray, *, metrics: Sequence[str], rounds: int, seed: int) -> dict[str, np.ndarray]:
        """Compute each figure on the rows as they are (first), then on each resample: (1 + rounds,)."""
        weightings = [np.ones((len(self), 1)), *bootstrap_weights(groups, rounds=rounds, seed=seed)]
        if self.predictions is not None:
            figures = {name: self._figure(self.predictions, name) for name in metrics}
            return {
                name: np.full(1 + rounds, np.nan)
                if figure is None
                else np.concatenate([figure(part) for part in weightings])
                for name, figure in figures.items()
            }
        values = self.values or {}
        return {
            name: np.concatenate([_weighted_mean(column, part) for part in weightings])
            for name, column in values.items()
        }

    def _figure(self, predictions: Predictions, name: str) -> WeightedFigure | None:
        """A figure; None for one with a moved threshold where nothing moves it."""
        plain = name.removesuffix(_MOVED)
        if plain == name:
            return WeightedFigure(predictions.labels, predictions.logits, metric=plain)  # type: ignore[arg-type]
        if self.offsets is None:
            return None
        return WeightedFigure(predictions.labels, predictions.logits + self.offsets, metric=plain)  # type: ignore[arg-type]


def read_judged(evaluation: Path, *, id_domain: str) -> dict[str, Judged]:
    """The results of a folder with a report, by domain: "id", then the others; domains without results are left out.

    Raises:
        MovlError: if the file is missing or damaged.
    """
    task = task_of(evaluation)
    if task is SEGMENTATION:
        return _read_cases(evaluation / task.file, id_domain)
    predictions, _ = read_predictions(evaluation / task.file)
    found = sections(predictions, id_domain=id_domain)  # in the order of the data set, whatever the salt of the ids
    named = {"id": found.id, **{name: found.ood[name] for name in sorted(found.ood)}}
    known = {domain: part.labeled() for domain, part in named.items()}
    val = found.val.labeled()
    offsets = moved_offsets(val.labels, val.logits) if len(val) else None
    return {
        domain: Judged(
            ids=part.ids,
            patients=[*part.patients],
            truth=part.labels.tolist(),
            predictions=part,
            offsets=offsets,
        )
        for domain, part in known.items()
        if len(part)
    }


def _read_cases(path: Path, id_domain: str) -> dict[str, Judged]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        tested = [row for row in rows if row["domain"] != id_domain or row["split"] not in ("train", "val")]
        domains = dict.fromkeys("id" if row["domain"] == id_domain else row["domain"] for row in tested)
        parts = {
            name: [row for row in tested if row["domain"] == (id_domain if name == "id" else name)] for name in domains
        }
        named = sorted(parts.items(), key=lambda pair: (pair[0] != "id", pair[0]))
        return {domain: _judged_cases(part) for domain, part in named}
    except (OSError, KeyError, ValueError) as error:
        raise MovlError(
            f"{path.name} cannot be read as cases: {type(error).__name__}. Expected the file of an evaluation, with "
            f"the columns case, domain, split, patient and {', '.join(SEGMENTATION.metrics)}."
        ) from error


def _judged_cases(rows: Sequence[Mapping[str, str]]) -> Judged:
    return Judged(
        ids=[row["case"] for row in rows],
        patients=[row["patient"] or None for row in rows],
        truth=[],
        values={name: np.array([float(row[name] or "nan") for row in rows]) for name in SEGMENTATION.metrics},
    )


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of the cases that have a value for each column of weights (N, R); NaN where none was drawn."""
    known = ~np.isnan(values)
    total = weights[known].sum(axis=0)
    return np.divide(values[known] @ weights[known], total, out=np.full(len(total), np.nan), where=total > 0)
