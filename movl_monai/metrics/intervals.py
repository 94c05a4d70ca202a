"""Patient-clustered bootstrap intervals of figures, and paired differences of two networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.checks import check_labeled
from movl_monai.metrics.entries import ClassIntervals, DrawnClassIntervals, DrawnDifference, DrawnIntervals
from movl_monai.metrics.resampling import PatientBootstrap, bootstrap_weights
from movl_monai.metrics.weighted import Metric, WeightedFigures

__all__ = [
    "bootstrap_class_intervals",
    "bootstrap_intervals",
    "bootstrap_means",
    "bootstrap_weights",
    "paired_bootstrap",
]


def bootstrap_intervals(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    patients: Sequence[str | None] | None = None,
    metrics: Sequence[Metric] | None = None,
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
    figures = WeightedFigures(label, score, metrics=metrics)
    return {"intervals": bootstrap.intervals(figures), **bootstrap.facts}


def bootstrap_class_intervals(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    class_names: Sequence[str],
    patients: Sequence[str | None] | None = None,
    **resampling: Any,
) -> DrawnClassIntervals:
    """Compute percentile intervals of the figures of each class against all others.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        class_names: the C names in the order of the logits.
        patients: patient of each image, as in :func:`bootstrap_intervals`.
        resampling: ``rounds``, ``level``, ``seed``, as in :func:`bootstrap_intervals`.

    Returns:
        ``per_class``: for each name ``sensitivity``, ``specificity``, ``auroc`` and ``average_precision``, [low, high]
            or
        None; and the facts and ``notes`` of :func:`bootstrap_intervals`.
    """
    label, score = check_labeled(labels, logits)
    bootstrap = PatientBootstrap(len(label), patients, **resampling)
    figures = WeightedFigures(label, score)
    names = [str(name) for name in class_names]

    def values(weights: np.ndarray) -> dict[str, np.ndarray]:
        columns = figures.per_class(weights)
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
        return {name: _mean(column, weights) for name, column in columns.items()}

    return {"intervals": bootstrap.intervals(means, why="no case with a value was drawn"), **bootstrap.facts}


def _mean(column: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = ~np.isnan(column)
    total = weights[known].sum(axis=0)
    return np.divide(column[known] @ weights[known], total, out=np.full(len(total), np.nan), where=total > 0)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
