"""Patient-clustered bootstrap intervals of figures, and paired differences of two networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import check_labeled
from movl_monai.metrics.declared import CLASS_FIGURES, TaskFigures
from movl_monai.metrics.entries import (
    ClassIntervals,
    DrawnClassIntervals,
    DrawnDifference,
    DrawnIntervals,
    ResamplingFacts,
)
from movl_monai.metrics.weighted import Metric, WeightedFigures

__all__ = [
    "Figures",
    "PatientBootstrap",
    "bootstrap_class_intervals",
    "bootstrap_intervals",
    "bootstrap_means",
    "bootstrap_weights",
    "paired_bootstrap",
    "weighted_mean",
]

Figures = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # weights (N, R) -> values (R,) by name
_MIN_DEFINED = 0.5  # smallest share of rounds with a value that an interval needs
_CHUNK = 4_000_000  # largest number of weights in memory


class PatientBootstrap:
    """Common resamples of images for any number of figures, so that differences of figures are paired.

    Each round draws as many patients as there are, with replacement, and takes all their images. Images of one patient
    are correlated, so resampling single images would give intervals that are too narrow. If patients are unknown,
    single images are drawn, and ``resampled`` and ``notes`` say so.

    Args:
        count: number of images N.
        patients: patient of each image; an image without one counts as a separate patient. None if all are unknown.
        unit: name of the drawn unit in ``resampled`` if patients are unknown.
        rounds: number of resamples.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the draws.

    Attributes:
        resampled: "patients", or ``unit``.
        num_resampled: number of patients or units.
        notes: notes for readers, including the reasons of missing intervals.

    Raises:
        ValueError: if there is not one patient per image, or rounds or level are out of range.

    Reference:
        Efron, Tibshirani: An Introduction to the Bootstrap, 1993, section 13.3 (percentile method); Field, Welsh:
        Bootstrapping clustered data, JRSS B 69, 2007 (whole clusters are drawn).

    Example:
        >>> bootstrap = PatientBootstrap(4, ["a", "a", "b", "b"], rounds=100)
        >>> bootstrap.intervals(lambda weights: {"share": np.array([1, 1, 0, 0]) @ weights / weights.sum(axis=0)})
        {'share': [0.0, 1.0]}
    """

    def __init__(
        self,
        count: int,
        patients: Sequence[str | None] | None = None,
        *,
        unit: str = "images",
        rounds: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> None:
        if rounds < 1 or not 0 < level < 1:
            raise ValueError(f"rounds must be at least 1 and level in (0, 1), got {rounds} and {level}.")
        self.rounds, self.level, self.seed = rounds, level, seed
        self.groups, self.resampled, self.notes = _groups(patients, count, unit)
        self.num_resampled = int(self.groups.max()) + 1 if count else 0
        self.count = count

    @property
    def facts(self) -> ResamplingFacts:
        """``resampled``, ``num_resampled``, ``rounds``, ``level``, ``seed``, ``notes``."""
        return {
            "resampled": self.resampled,
            "num_resampled": self.num_resampled,
            "rounds": self.rounds,
            "level": self.level,
            "seed": self.seed,
            "notes": self.notes,
        }

    def resample(self, figures: Figures) -> dict[str, np.ndarray]:
        """Compute the figures in every round, (rounds,) each, NaN if undefined."""
        parts: dict[str, list[np.ndarray]] = {}
        for weights in bootstrap_weights(self.groups, rounds=self.rounds, seed=self.seed):
            for name, values in figures(weights).items():
                parts.setdefault(name, []).append(values)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def intervals(self, figures: Figures, *, why: str = "a class had no images") -> dict[str, list[float] | None]:
        """Compute the percentile interval [low, high] of every figure; None with a note if there is none.

        A figure that is undefined on the full sample has neither an interval nor a note here.

        Args:
            figures: maps weights (N, R) to the values (R,) of each figure.
            why: reason why a figure can be undefined in a round, for the notes.
        """
        whole = figures(np.ones((self.count, 1)))
        defined = [name for name, value in whole.items() if not np.isnan(value[0])]
        if self.num_resampled < 2:
            note = f"No intervals: resampling needs two or more {self.resampled}, got {self.num_resampled}."
            self.notes += [note] if note not in self.notes else []
            return dict.fromkeys(whole)
        drawn = self.resample(figures)
        self._note_gaps({name: int(np.isnan(drawn[name]).sum()) for name in defined}, why)
        found = {name: self._interval(drawn[name]) for name in defined}
        return {name: found.get(name) for name in whole}

    def _interval(self, values: np.ndarray) -> list[float] | None:
        known = values[~np.isnan(values)]
        if len(known) < _MIN_DEFINED * len(values):
            return None
        tail = (1 - self.level) / 2
        return [float(bound) for bound in np.quantile(known, [tail, 1 - tail])]

    def _note_gaps(self, gaps: Mapping[str, int], why: str) -> None:
        """Add one note per number of undefined rounds, for all figures with that number."""
        for gap in sorted(set(gaps.values()) - {0}):
            names = [name for name, value in gaps.items() if value == gap]
            rounds = f"{gap} of {self.rounds} resamples"
            if self.rounds - gap < _MIN_DEFINED * self.rounds:
                has = "it has" if len(names) == 1 else "they have"
                self.notes.append(f"No interval for {', '.join(names)}: {has} no value in {rounds}, in which {why}.")
            else:
                what = f"interval of {names[0]} leaves" if len(names) == 1 else f"intervals of {', '.join(names)} leave"
                self.notes.append(f"The {what} out {rounds} in which {why}.")


def bootstrap_weights(groups: np.ndarray, *, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the number of draws of each image in each round, in chunks (N, r) whose r add up to ``rounds``.

    Args:
        groups: integers (N,) from 0 without gaps; images of one group are drawn together.
        rounds: number of resamples.
        seed: seed of the draws.
    """
    generator = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    step = int(np.clip(_CHUNK // len(groups), 1, 64))  # small chunks stay in the processor's cache
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        draws = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        yield np.ascontiguousarray(times.T[groups], dtype=np.float64)


def _groups(patients: Sequence[str | None] | None, count: int, unit: str) -> tuple[np.ndarray, str, list[str]]:
    if patients is None or all(patient is None for patient in patients):
        note = "Images were resampled one by one because patients are not known; with several images per patient the "
        return np.arange(count), unit, [note + "intervals are too narrow."]
    if len(patients) != count:
        raise ValueError(f"Expected one patient per image, got {len(patients)} for {count} images.")
    alone = sum(patient is None for patient in patients)
    notes = [f"{alone} images without a patient count as patients of their own."] if alone else []
    keys: dict[object, int] = {}
    numbers = [
        keys.setdefault(("image", index) if patient is None else patient, len(keys))
        for index, patient in enumerate(patients)
    ]
    return np.array(numbers, dtype=np.int64), "patients", notes


def bootstrap_intervals(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    patients: Sequence[str | None] | None = None,
    metrics: Sequence[str] | None = None,
    figures: TaskFigures = CLASS_FIGURES,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> DrawnIntervals:
    """Compute percentile intervals of figures, from :class:`~movl_monai.evaluation.PatientBootstrap`.

    Rounds in which a figure is undefined, because a class got no images, are left out and counted in ``notes``.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        patients: patient of each image; an image without one counts as a separate patient. None if all are unknown.
        metrics: names of :data:`~movl_monai.metrics.weighted.METRICS`; None takes all.
        figures: figures of the task, and its predicted class.
        rounds: number of resamples.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the draws.

    Returns:
        ``intervals``: for each metric [low, high] or None; ``resampled``: "patients" or "images"; ``num_resampled``:
            their
        number; ``rounds``, ``level``, ``seed``; ``notes``: notes for readers, including the reason of each None.
    """
    label, score = check_labeled(labels, logits)
    bootstrap = PatientBootstrap(len(label), patients, rounds=rounds, level=level, seed=seed)
    weigh = WeightedFigures(label, score, metrics=metrics, figures=figures)
    return {"intervals": bootstrap.intervals(weigh), **bootstrap.facts}


def bootstrap_class_intervals(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    class_names: Sequence[str],
    patients: Sequence[str | None] | None = None,
    figures: TaskFigures = CLASS_FIGURES,
    **resampling: Any,
) -> DrawnClassIntervals:
    """Compute percentile intervals of the figures of each class against all others.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        class_names: the C names in the order of the logits.
        patients: patient of each image, as in :func:`bootstrap_intervals`.
        figures: as in :func:`bootstrap_intervals`.
        resampling: ``rounds``, ``level``, ``seed``, as in :func:`bootstrap_intervals`.

    Returns:
        ``per_class``: for each name ``sensitivity``, ``specificity``, ``auroc`` and ``average_precision``, [low, high]
            or
        None; and the facts and ``notes`` of :func:`bootstrap_intervals`.
    """
    label, score = check_labeled(labels, logits)
    bootstrap = PatientBootstrap(len(label), patients, **resampling)
    weigh = WeightedFigures(label, score, figures=figures)
    names = [str(name) for name in class_names]

    def values(weights: np.ndarray) -> dict[str, np.ndarray]:
        columns = weigh.per_class(weights)
        return {f"{figure} of {name}": columns[figure][row] for row, name in enumerate(names) for figure in columns}

    found = bootstrap.intervals(values, why="one side had no images")
    per_class: dict[str, ClassIntervals] = {
        name: {
            "sensitivity": found[f"sensitivity of {name}"],
            "specificity": found[f"specificity of {name}"],
            "auroc": found[f"auroc of {name}"],
            "average_precision": found[f"average_precision of {name}"],
        }
        for name in names
    }
    return {"per_class": per_class, **bootstrap.facts}


def paired_bootstrap(
    labels: ArrayLike,
    logits_a: ArrayLike,
    logits_b: ArrayLike,
    groups: Sequence[str | None] | None,
    metric: Metric,
    *,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> DrawnDifference:
    """Compute the difference a - b of a figure of two networks on the same images, with its percentile interval.

    Both figures use the same resamples, so that effects common to both networks, such as hard images, cancel out.

    Args:
        labels: integers (N,) in [0, C).
        logits_a: (N, C), before softmax, in the order of the labels.
        logits_b: as ``logits_a``, for the same images.
        groups: patient of each image, as in :func:`bootstrap_intervals`.
        metric: a name of :data:`~movl_monai.metrics.weighted.METRICS`.
        rounds: number of resamples.
        level: confidence level of the interval, in (0, 1).
        seed: seed of the draws.

    Returns:
        ``metric``, ``a``, ``b``, ``difference`` (None if undefined), ``interval`` ([low, high] or None), ``resampled``,
        ``num_resampled``, ``rounds``, ``level``, ``seed``, ``notes``.
    """
    first, second = (WeightedFigures(np.asarray(labels), logits, metrics=[metric]) for logits in (logits_a, logits_b))
    if first.num_classes != second.num_classes:
        raise ValueError(f"Both need the same classes, got {first.num_classes} and {second.num_classes} logits.")
    bootstrap = PatientBootstrap(len(first.labels), groups, rounds=rounds, level=level, seed=seed)

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {metric: first(weights)[metric] - second(weights)[metric]}

    once = np.ones((len(first.labels), 1))
    a, b = (float(figures(once)[metric][0]) for figures in (first, second))
    interval = bootstrap.intervals(difference)[metric]
    if np.isnan(a - b):
        bootstrap.notes.append(f"{metric} has no value on these images: a class has no images, or all of them.")
    return {
        "metric": metric,
        "a": _number(a),
        "b": _number(b),
        "difference": _number(a - b),
        "interval": interval,
        **bootstrap.facts,
    }


def bootstrap_means(
    values: Mapping[str, np.ndarray],
    *,
    patients: Sequence[str | None] | None = None,
    unit: str = "images",
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> DrawnIntervals:
    """Compute percentile intervals of means over cases.

    Args:
        values: values of each figure per case, (N,), NaN if undefined; such cases are left out.
        patients: patient of each case; see :func:`bootstrap_intervals`.
        unit: name of the drawn unit in ``resampled`` if patients are unknown.
        rounds: number of resamples.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the draws.

    Returns:
        as :func:`bootstrap_intervals`.

    Example:
        >>> result = bootstrap_means({"dice": np.array([0.5, 0.5, 0.5])}, rounds=10)
        >>> result["intervals"], result["resampled"]
        ({'dice': [0.5, 0.5]}, 'images')
    """
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    size = len(next(iter(columns.values()), np.empty(0)))
    bootstrap = PatientBootstrap(size, patients, unit=unit, rounds=rounds, level=level, seed=seed)

    def means(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: weighted_mean(column, weights) for name, column in columns.items()}

    return {"intervals": bootstrap.intervals(means, why="no case with a value was drawn"), **bootstrap.facts}


def weighted_mean(column: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values (N,) without NaN for weights (N, R), shape (R,); NaN if no such value has a weight."""
    known = ~np.isnan(column)
    total = weights[known].sum(axis=0)
    return np.divide(column[known] @ weights[known], total, out=np.full(len(total), np.nan), where=total > 0)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
