"""Results of one network on each image or case of an evaluation, for comparisons of several networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.declared import CLASS_FIGURES, MOVED, TaskFigures
from movl_monai.metrics.intervals import Figures, bootstrap_weights, weighted_mean
from movl_monai.metrics.stored.cases import read_cases
from movl_monai.metrics.stored.outputs import StoredOutputs, read_outputs
from movl_monai.metrics.stored.predictions import Predictions, read_predictions, sections
from movl_monai.metrics.weighted import WeightedFigure

__all__ = [
    "Judged",
    "JudgedCases",
    "JudgedImages",
    "JudgedOutputs",
    "judged_cases",
    "judged_images",
    "judged_outputs",
    "moved_offsets",
]

_SWEEPS = 20


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Results of one network on the N images or cases of one domain.

    Args:
        ids: salted ids, (N,).
        patients: patient of each; None if unknown.
        truth: labels, (N,), the same for all networks; empty if the file does not hold them.
    """

    ids: list[str]
    patients: list[str | None]
    truth: list[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def groups(self) -> np.ndarray:
        """Number of each row's patient; one without is a patient of its own."""
        numbers: dict[object, int] = {}
        pairs = zip(self.patients, self.ids, strict=True)
        return np.array([numbers.setdefault(patient or ("image", name), len(numbers)) for patient, name in pairs])

    def figure(self, name: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return the function from weights (N, R) to a figure (R,), NaN if undefined; None without such a figure."""
        raise NotImplementedError

    def draws(self, groups: np.ndarray, *, metrics: Sequence[str], rounds: int, seed: int) -> dict[str, np.ndarray]:
        """Compute each figure on the rows as they are (first), then on each resample: (1 + rounds,)."""
        weightings = [np.ones((len(self), 1)), *bootstrap_weights(groups, rounds=rounds, seed=seed)]
        figures = {name: self.figure(name) for name in metrics}
        return {
            name: np.full(1 + rounds, np.nan)
            if figure is None
            else np.concatenate([figure(part) for part in weightings])
            for name, figure in figures.items()
        }


@dataclass(frozen=True, kw_only=True)
class JudgedImages(Judged):
    """Results of a classification.

    Args:
        ids: see :class:`Judged`.
        patients: see :class:`Judged`.
        truth: see :class:`Judged`.
        predictions: of the images.
        offsets: of the logits, which move the thresholds, (C,); None without validation images.
        figures: figures of the task, and its predicted class.
    """

    predictions: Predictions
    offsets: np.ndarray | None
    figures: TaskFigures = CLASS_FIGURES

    def figure(self, name: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return a figure; None for one at moved thresholds if nothing moves them."""
        plain, logits = name.removesuffix(MOVED), self.predictions.logits
        if plain != name:
            if self.offsets is None:
                return None
            logits = logits + self.offsets
        return WeightedFigure(self.predictions.labels, logits, metric=plain, figures=self.figures)


@dataclass(frozen=True, kw_only=True)
class JudgedCases(Judged):
    """Results of a segmentation.

    Args:
        ids: see :class:`Judged`.
        patients: see :class:`Judged`.
        truth: see :class:`Judged`.
        values: value of each figure in each case, (N,), NaN for none.
    """

    values: Mapping[str, np.ndarray]

    def figure(self, name: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return the mean of a figure over the cases that have a value."""
        return partial(weighted_mean, self.values[name])


@dataclass(frozen=True, kw_only=True)
class JudgedOutputs(Judged):
    """Results of a task of whole images whose figures come from stored outputs.

    Args:
        ids: see :class:`Judged`.
        patients: see :class:`Judged`.
        truth: see :class:`Judged`; None for an unknown label.
        weighted: maps names of figures to these figures as a function of the weights.
    """

    weighted: Callable[[Sequence[str]], Figures]

    def figure(self, name: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return a figure."""
        figures = self.weighted([name])
        return lambda weights: figures(weights)[name]


def judged_outputs(path: Path, weighted: Callable[..., Figures]) -> dict[str, Judged]:
    """Read stored outputs by domain; see :func:`judged_images`.

    Args:
        path: folder of an evaluation.
        weighted: :meth:`~movl_monai.report.task.Task.weighted` of the task.

    Raises:
        MovlError: if the file is missing or damaged.
    """
    outputs = read_outputs(path)
    found: dict[str, Judged] = {}
    for key, part in outputs.sections().items():
        images = part.predictions.labeled()
        if len(images) and (key == "id" or key.startswith("ood:")):
            found[key.removeprefix("ood:")] = JudgedOutputs(
                ids=images.ids,
                patients=[*images.patients],
                truth=np.where(np.isnan(images.labels), None, images.labels).tolist(),  # type: ignore[call-overload]
                weighted=partial(_named, weighted, images, outputs),
            )
    return found


def _named(
    weighted: Callable[..., Figures], images: Predictions, outputs: StoredOutputs, metrics: Sequence[str]
) -> Figures:
    return weighted(images, outputs, metrics=metrics)


def judged_images(path: Path, *, id_domain: str, figures: TaskFigures = CLASS_FIGURES) -> dict[str, Judged]:
    """Read the results of a classification by domain: "id", then the others; domains without results are left out.

    Args:
        path: predictions.csv of an evaluation.
        id_domain: the in-distribution domain.
        figures: figures of the task, and its predicted class.

    Raises:
        MovlError: if the file is missing or damaged.
    """
    predictions, _ = read_predictions(path)
    found = sections(predictions, id_domain=id_domain)  # in the order of the data set, whatever the salt of the ids
    named = {"id": found.id, **{name: found.ood[name] for name in sorted(found.ood)}}
    val = found.val.labeled()
    offsets = moved_offsets(val.labels, val.logits) if len(val) else None
    known = {domain: part.labeled() for domain, part in named.items()}
    return {
        domain: JudgedImages(
            ids=part.ids,
            patients=[*part.patients],
            truth=part.labels.tolist(),
            predictions=part,
            offsets=offsets,
            figures=figures,
        )
        for domain, part in known.items()
        if len(part)
    }


def judged_cases(path: Path, *, id_domain: str, figures: Sequence[str]) -> dict[str, Judged]:
    """Read the results of a segmentation by domain; see :func:`judged_images`.

    Args:
        path: cases.csv of an evaluation.
        id_domain: the in-distribution domain.
        figures: names of the figures to read.

    Raises:
        MovlError: if the file is missing or damaged.
    """
    parts: dict[str, list[Mapping[str, str]]] = {}
    for row in read_cases(path, figures=figures):
        if row["domain"] != id_domain or row["split"] not in ("train", "val"):
            parts.setdefault("id" if row["domain"] == id_domain else row["domain"], []).append(row)
    return {
        domain: JudgedCases(
            ids=[row["case"] for row in parts[domain]],
            patients=[row["patient"] or None for row in parts[domain]],
            truth=[],
            values={name: np.array([float(row[name] or "nan") for row in parts[domain]]) for name in figures},
        )
        for domain in sorted(parts, key=lambda name: (name != "id", name))
    }


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
