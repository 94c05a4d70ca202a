"""Intervals of stored predictions: all resamples at once, relative to one call of scikit-learn per resample."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn import metrics as sk

from movl_monai.evaluation import bootstrap_intervals, bootstrap_weights
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.weighted import METRICS, Metric

from .clock import compare_actions
from .settings import BenchSettings

__all__ = ["StoredPredictions", "intervals_by_scikit_learn", "run", "stored_predictions"]


@dataclass(frozen=True)
class StoredPredictions:
    """Stored predictions of an evaluation for N images, two per patient.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C).
        patients: (N,).
    """

    labels: np.ndarray
    logits: np.ndarray
    patients: list[str | None]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare patient-clustered bootstrap intervals of stored predictions, in CPU time of the process.

    ``bootstrap_vs_sklearn``: the AUROC of two classes, one call of scikit-learn per resample.
    ``bootstrap_all_vs_sklearn``: all figures with intervals in a report, with the settings' number of classes. The
        loops run over a part of the resamples, ``sklearn_rounds``, with their time scaled to all; ours runs all. Both
        draw the same patients.
    """
    figures = _compare("bootstrap_vs_sklearn", stored_predictions(settings, num_classes=2), ("auroc",), settings)
    several = stored_predictions(settings, num_classes=settings.num_classes)
    figures |= _compare("bootstrap_all_vs_sklearn", several, METRICS, settings)
    return figures | {"bootstrap_sklearn_rounds_timed": float(settings.sklearn_rounds)}


def stored_predictions(settings: BenchSettings, *, num_classes: int) -> StoredPredictions:
    """Return predictions of a network that is mostly right."""
    generator = np.random.default_rng(settings.seed)
    count = settings.stored_predictions
    labels = generator.permutation(np.arange(count) % num_classes)
    logits = generator.normal(size=(count, num_classes))
    logits[np.arange(count), labels] += 1.5
    return StoredPredictions(labels, logits, [f"p{index // 2}" for index in range(count)])


def intervals_by_scikit_learn(
    stored: StoredPredictions, metrics: tuple[Metric, ...], *, rounds: int, seed: int = 0
) -> Mapping[str, list[float]]:
    """Draw patients, select the rows of their images, and call scikit-learn: the straightforward implementation."""
    groups = np.unique(np.array(stored.patients), return_inverse=True)[1]
    order = np.unique(groups, return_index=True)[1]  # numbers by first appearance, as ours
    groups = np.argsort(np.argsort(order))[groups]
    predicted, probabilities = stored.logits.argmax(axis=1), softmax(stored.logits)
    values: dict[str, list[float]] = {metric: [] for metric in metrics}
    for weights in bootstrap_weights(groups, rounds=rounds, seed=seed):
        for column in weights.T:
            rows = np.repeat(np.arange(len(groups)), column.astype(np.int64))
            for metric in metrics:
                values[metric].append(_CALLS[metric](stored.labels[rows], predicted[rows], probabilities[rows]))
    return {name: np.quantile(drawn, [0.025, 0.975]).tolist() for name, drawn in values.items()}


def _compare(
    name: str, stored: StoredPredictions, metrics: tuple[Metric, ...], settings: BenchSettings
) -> dict[str, float]:
    ours = partial(
        bootstrap_intervals,
        stored.labels,
        stored.logits,
        patients=stored.patients,
        metrics=metrics,
        rounds=settings.bootstrap_rounds,
    )
    other = partial(intervals_by_scikit_learn, stored, metrics, rounds=settings.sklearn_rounds)
    return compare_actions(
        name,
        ours=ours,
        other=other,
        clock=time.process_time,
        other_count=settings.bootstrap_rounds / settings.sklearn_rounds,
        **settings.repetitions,
    )


def _areas(
    function: Callable[..., float], labels: np.ndarray, probabilities: np.ndarray, *, weighted: bool = False
) -> float:
    """Return the mean over the classes, one against the rest; with two classes the AUROC of the second, called once."""
    count = probabilities.shape[1]
    columns = [1] if count == 2 and function is sk.roc_auc_score else range(count)
    areas = [function(labels == index, probabilities[:, index]) for index in columns]
    share = np.bincount(labels, minlength=count) if weighted and len(areas) > 1 else None
    return float(np.average(areas, weights=share))


def _brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(sum(sk.brier_score_loss(labels == index, column) for index, column in enumerate(probabilities.T)))


_CALLS: dict[Metric, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, predicted, _: sk.accuracy_score(labels, predicted),
    "balanced_accuracy": lambda labels, predicted, _: sk.balanced_accuracy_score(labels, predicted),
    "auroc": lambda labels, _, scores: _areas(sk.roc_auc_score, labels, scores),
    "auroc_weighted": lambda labels, _, scores: _areas(sk.roc_auc_score, labels, scores, weighted=True),
    "average_precision": lambda labels, _, scores: _areas(sk.average_precision_score, labels, scores),
    "average_precision_weighted": lambda labels, _, scores: _areas(
        sk.average_precision_score, labels, scores, weighted=True
    ),
    "quadratic_kappa": lambda labels, predicted, _: sk.cohen_kappa_score(labels, predicted, weights="quadratic"),
    "cross_entropy": lambda labels, _, scores: sk.log_loss(labels, scores, labels=np.arange(scores.shape[1])),
    "brier": lambda labels, _, scores: _brier(labels, scores),
}
