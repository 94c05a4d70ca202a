"""How sure a figure is: bootstrap intervals that resample patients, and paired differences of two networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.evaluation.checks import check_labeled
from movl_monai.evaluation.weighted import METRICS, Metric, WeightedFigure

__all__ = ["bootstrap_intervals", "bootstrap_means", "bootstrap_weights", "paired_bootstrap"]

_MIN_DEFINED = 0.5  # share of rounds in which a figure must have a value for its interval to be given
_CHUNK = 4_000_000  # weights held at once


def bootstrap_intervals(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    patients: Sequence[str | None] | None = None,
    metrics: Sequence[Metric] = METRICS,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Percentile intervals of figures.

    Each round draws as many patients as there are, with replacement, with all their images: images of one patient are
    alike, and resampling them one by one would give intervals that are too narrow. Without patients it draws images,
    and ``resampled`` and ``notes`` say so. Rounds in which a class got no images are left out and counted in ``notes``.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        patients: patient of each image; an image without one counts as a patient of its own. None: none is known.
        metrics: "accuracy", "balanced_accuracy", "auroc".
        rounds: number of resamples.
        level: probability in (0, 1) that the interval is to cover.
        seed: of the draws.

    Returns:
        ``intervals``: for each metric [low, high] or None; ``resampled``: "patients" or "images"; ``num_resampled``:
        how many there are; ``rounds``, ``level``, ``seed``; ``notes``: what a reader must know, and why a None is one.

    Reference:
        Efron, Tibshirani: An Introduction to the Bootstrap, 1993, section 13.3 (percentile method); Field, Welsh:
        Bootstrapping clustered data, JRSS B 69, 2007 (whole clusters are drawn).
    """
    label, score = check_labeled(labels, logits)
    groups, resampled, notes = _groups(patients, len(label))
    count = int(groups.max()) + 1 if len(groups) else 0
    result: dict[str, Any] = {"intervals": dict.fromkeys(metrics), "resampled": resampled, "num_resampled": count}
    result |= {"rounds": rounds, "level": level, "seed": seed, "notes": notes}
    if count < 2:
        notes.append(f"No intervals: resampling needs two or more {resampled}, got {count}.")
        return result
    figures = {metric: WeightedFigure(label, score, metric=metric) for metric in metrics}
    values: dict[str, list[np.ndarray]] = {metric: [] for metric in metrics}
    for weights in bootstrap_weights(groups, rounds=rounds, seed=seed):
        for metric, figure in figures.items():
            values[metric].append(figure(weights))
    for metric, figure in figures.items():
        if np.isnan(figure(np.ones((len(label), 1)))[0]):
            continue  # a figure without a value has no interval, and its own note
        result["intervals"][metric] = _interval(np.concatenate(values[metric]), level, metric, notes)
    return result


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
) -> dict[str, Any]:
    """Difference a - b of one figure between two networks on the same images, with its percentile interval.

    Both are computed on the same resamples, so that what makes images hard for both cancels out.

    Args:
        labels: integers (N,) in [0, C).
        logits_a: (N, C), before softmax, in the order of the labels.
        logits_b: as ``logits_a``, for the same images.
        groups: patient of each image, as in :func:`bootstrap_intervals`.
        metric: "accuracy", "balanced_accuracy" or "auroc".
        rounds: number of resamples.
        level: probability in (0, 1) that the interval is to cover.
        seed: of the draws.

    Returns:
        ``metric``, ``a``, ``b``, ``difference`` (None without a value), ``interval`` ([low, high] or None),
        ``resampled``, ``num_resampled``, ``rounds``, ``level``, ``seed``, ``notes``.
    """
    figures = [WeightedFigure(np.asarray(labels), np.asarray(logits), metric=metric) for logits in (logits_a, logits_b)]
    if figures[0].num_classes != figures[1].num_classes:
        raise ValueError(
            f"Both need the same classes, got {figures[0].num_classes} and {figures[1].num_classes} logits."
        )
    cluster, resampled, notes = _groups(groups, len(figures[0].labels))
    count = int(cluster.max()) + 1 if len(cluster) else 0
    a, b = (float(figure(np.ones((len(figure.labels), 1)))[0]) for figure in figures)
    result: dict[str, Any] = {"metric": metric, "a": _number(a), "b": _number(b), "difference": _number(a - b)}
    result |= {"interval": None, "resampled": resampled, "num_resampled": count}
    result |= {"rounds": rounds, "level": level, "seed": seed, "notes": notes}
    if np.isnan(a - b):
        notes.append(f"{metric} has no value on these images: a class has no images, or all of them.")
    elif count < 2:
        notes.append(f"No interval: resampling needs two or more {resampled}, got {count}.")
    else:
        draws = bootstrap_weights(cluster, rounds=rounds, seed=seed)
        differences = np.concatenate([figures[0](weights) - figures[1](weights) for weights in draws])
        result["interval"] = _interval(differences, level, metric, notes)
    return result


def bootstrap_means(
    values: Mapping[str, np.ndarray],
    *,
    patients: Sequence[str | None] | None = None,
    unit: str = "images",
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Percentile intervals of means over cases, of figures that each case has by itself.

    Args:
        values: for each figure its value in each case, (N,), NaN where a case has none; such cases are left out.
        patients: patient of each case; see :func:`bootstrap_intervals`.
        unit: what is drawn where patients are not known, for ``resampled``.
        rounds: number of resamples.
        level: probability in (0, 1) that the interval is to cover.
        seed: of the draws.

    Returns:
        as :func:`bootstrap_intervals`.

    Example:
        >>> result = bootstrap_means({"dice": np.array([0.5, 0.5, 0.5])}, rounds=10)
        >>> result["intervals"], result["resampled"]
        ({'dice': [0.5, 0.5]}, 'images')
    """
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    size = len(next(iter(columns.values()), np.empty(0)))
    groups, resampled, notes = _groups(patients, size)
    count = int(groups.max()) + 1 if len(groups) else 0
    resampled = unit if resampled == "images" else resampled
    result: dict[str, Any] = {"intervals": dict.fromkeys(columns), "resampled": resampled, "num_resampled": count}
    result |= {"rounds": rounds, "level": level, "seed": seed, "notes": notes}
    if count < 2:
        notes.append(f"No intervals: resampling needs two or more {resampled}, got {count}.")
        return result
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for weights in bootstrap_weights(groups, rounds=rounds, seed=seed):
        for name, column in columns.items():
            known = ~np.isnan(column)
            total = weights[known].sum(axis=0)
            sums = column[known] @ weights[known]
            drawn[name].append(np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0))
    for name, column in columns.items():
        if not np.isnan(column).all():
            why = "no case with a value was drawn"
            result["intervals"][name] = _interval(np.concatenate(drawn[name]), level, name, notes, why=why)
    return result


def bootstrap_weights(groups: np.ndarray, *, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn in each round, in pieces (N, r) whose r add up to ``rounds``.

    Args:
        groups: integers (N,) from 0 without gaps; images of one group are drawn together.
        rounds: number of resamples.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    step = int(np.clip(_CHUNK // len(groups), 1, 64))  # small pieces stay in the cache of the processor
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        draws = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        yield times.T[groups].astype(np.float64)


def _groups(patients: Sequence[str | None] | None, count: int) -> tuple[np.ndarray, str, list[str]]:
    if patients is None or all(patient is None for patient in patients):
        note = "Images were resampled one by one because patients are not known; with several images per patient the "
        return np.arange(count), "images", [note + "intervals are too narrow."]
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


def _interval(
    values: np.ndarray, level: float, metric: str, notes: list[str], *, why: str = "a class had no images"
) -> list[float] | None:
    defined = values[~np.isnan(values)]
    if len(defined) < _MIN_DEFINED * len(values):
        notes.append(
            f"No interval for {metric}: it has no value in {len(values) - len(defined)} of {len(values)} resamples, "
            f"in which {why}."
        )
        return None
    if len(defined) < len(values):
        notes.append(
            f"The interval of {metric} leaves out {len(values) - len(defined)} of {len(values)} resamples in which "
            f"{why}."
        )
    tail = (1 - level) / 2
    return [float(bound) for bound in np.quantile(defined, [tail, 1 - tail])]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
