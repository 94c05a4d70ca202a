"""Figures of a classification: each one's name, function, resampled version and words for readers.

A new figure needs its row in :data:`DECLARED`, its name in :data:`FigureName` (and :data:`Metric` if it has intervals)
and in :class:`MetricFigures`. The report, its page, its tables and the comparisons of runs read them from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

import numpy as np

from movl_monai.metrics import classification_metrics as metrics

__all__ = ["DECLARED", "Declared", "FigureName", "LabeledScores", "Metric", "MetricFigures", "WeightedSums", "ratio"]

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "auroc_weighted",
    "average_precision",
    "average_precision_weighted",
    "quadratic_kappa",
    "cross_entropy",
    "brier",
]
FigureName = Literal[
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "auroc_weighted",
    "average_precision",
    "average_precision_weighted",
    "quadratic_kappa",
    "cross_entropy",
    "brier",
    "ece",
]


class MetricFigures(TypedDict, total=False):
    """Figures by metric; a figure without a value is None."""

    accuracy: float | None
    balanced_accuracy: float | None
    auroc: float | None
    auroc_weighted: float | None
    average_precision: float | None
    average_precision_weighted: float | None
    quadratic_kappa: float | None
    cross_entropy: float | None
    brier: float | None
    ece: float | None


@dataclass(frozen=True, kw_only=True)
class LabeledScores:
    """Labelled images, and the figures of every class that several figures share.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        probabilities: (N, C).
        sensitivity: of each class against all others, (C,), NaN if undefined.
        specificity: as ``sensitivity``.
        auroc: as ``sensitivity``.
        average_precision: as ``sensitivity``.
        counts: images of each class, (C,).
    """

    labels: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    auroc: np.ndarray
    average_precision: np.ndarray
    counts: np.ndarray


class WeightedSums(Protocol):
    """Sums over R weightings of the same images, from which the resampled figures come."""

    @property
    def weights(self) -> np.ndarray:
        """Weight of each image, (N, R)."""

    @property
    def matrix(self) -> np.ndarray:
        """Label by predicted class, (C, C, R)."""

    @property
    def total(self) -> np.ndarray:
        """Sum of the weights, (R,)."""

    @property
    def losses(self) -> np.ndarray:
        """Cross entropy of each image, (N,)."""

    @property
    def squares(self) -> np.ndarray:
        """Brier score of each image, (N,)."""

    @property
    def areas(self) -> np.ndarray:
        """Area under the ROC curve of each class, (C, R)."""

    @property
    def precisions(self) -> np.ndarray:
        """Average precision of each class, (C, R)."""

    @property
    def sensitivities(self) -> np.ndarray:
        """Sensitivity of each class, (C, R)."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A figure of a classification.

    Args:
        title: name for readers.
        better: "↑" if larger is better, else "↓".
        definition: explanation for readers.
        function: computes the figure, or raises :class:`~movl_monai.evaluation.UndefinedMetricError`.
        weighted: computes it for R weightings, (R,), NaN if undefined; None if it has no intervals.
    """

    title: str
    better: Literal["↑", "↓"]
    definition: str
    function: Callable[[LabeledScores], float]
    weighted: Callable[[WeightedSums], np.ndarray] | None


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _weighted_kappa(sums: WeightedSums) -> np.ndarray:
    grades = np.arange(len(sums.matrix))
    penalty = (grades[:, None] - grades) ** 2
    observed = np.einsum("ij,ijr->r", penalty, sums.matrix)
    expected = np.einsum("ij,ir,jr->r", penalty, sums.matrix.sum(axis=1), sums.matrix.sum(axis=0))
    return 1 - ratio(observed * sums.total, expected)


# in the order of report.json
DECLARED: dict[FigureName, Declared] = {
    "accuracy": Declared(
        title="Accuracy",
        better="↑",
        definition="share of images whose most probable class is their label",
        function=lambda images: metrics.accuracy(images.labels, images.logits),
        weighted=lambda sums: ratio(np.trace(sums.matrix), sums.total),
    ),
    "balanced_accuracy": Declared(
        title="Balanced accuracy",
        better="↑",
        definition="mean sensitivity of all classes",
        function=lambda images: metrics.class_mean(images.sensitivity, "sensitivity"),
        weighted=lambda sums: sums.sensitivities.mean(axis=0),
    ),
    "auroc": Declared(
        title="AUROC",
        better="↑",
        definition="area under the ROC curve, each class against the rest, mean over the classes",
        function=lambda images: metrics.class_mean(images.auroc, "AUROC"),
        weighted=lambda sums: sums.areas.mean(axis=0),
    ),
    "auroc_weighted": Declared(
        title="AUROC, weighted",
        better="↑",
        definition="as AUROC, but classes count by their number of images",
        function=lambda images: metrics.class_mean(images.auroc, "AUROC", counts=images.counts),
        weighted=lambda sums: ratio((sums.areas * sums.matrix.sum(axis=1)).sum(axis=0), sums.total),
    ),
    "average_precision": Declared(
        title="Average precision",
        better="↑",
        definition="each class against the rest, mean over the classes",
        function=lambda images: metrics.class_mean(images.average_precision, "average precision"),
        weighted=lambda sums: sums.precisions.mean(axis=0),
    ),
    "average_precision_weighted": Declared(
        title="Average precision, weighted",
        better="↑",
        definition="classes count by their number of images",
        function=lambda images: metrics.class_mean(images.average_precision, "average precision", counts=images.counts),
        weighted=lambda sums: ratio((sums.precisions * sums.matrix.sum(axis=1)).sum(axis=0), sums.total),
    ),
    "quadratic_kappa": Declared(
        title="Quadratic kappa",
        better="↑",
        definition="agreement beyond chance; only means something for ordered classes",
        function=lambda images: metrics.quadratic_kappa(images.labels, images.logits),
        weighted=_weighted_kappa,
    ),
    "cross_entropy": Declared(
        title="Cross entropy",
        better="↓",
        definition="mean negative log likelihood of the label, in nats",
        function=lambda images: metrics.cross_entropy(images.labels, images.logits),
        weighted=lambda sums: ratio(sums.losses @ sums.weights, sums.total),
    ),
    "brier": Declared(
        title="Brier score",
        better="↓",
        definition="squared distance of probabilities and label, summed over classes, 0 to 2",
        function=lambda images: metrics.brier_score(images.labels, images.probabilities),
        weighted=lambda sums: ratio(sums.squares @ sums.weights, sums.total),
    ),
    # no intervals: it is never negative, so resampling biases it upwards and its percentiles miss it
    "ece": Declared(
        title="Calibration error",
        better="↓",
        definition="expected calibration error (ECE) over 15 bins of equal width",
        function=lambda images: metrics.expected_calibration_error(images.labels, images.probabilities),
        weighted=None,
    ),
}
