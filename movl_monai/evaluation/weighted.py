"""Figures under many weightings of the same images at once: what a bootstrap needs.

A bootstrap round draws images with replacement; drawing image i k times is giving it the weight k. So R rounds are one
matrix of weights (N, R), and each figure is a few matrix operations instead of R passes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from movl_monai.evaluation.checks import check_labeled
from movl_monai.evaluation.metrics import softmax

__all__ = ["METRICS", "Metric", "WeightedFigure", "weighted_auroc"]

Metric = Literal["accuracy", "balanced_accuracy", "auroc"]
METRICS: tuple[Metric, ...] = ("accuracy", "balanced_accuracy", "auroc")


class WeightedFigure:
    """A figure of fixed labels and logits as a function of the images' weights.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        metric: "accuracy", "balanced_accuracy" or "auroc" (macro, one against the rest).

    Raises:
        ValueError: if the metric is unknown or the shapes do not fit.

    Example:
        >>> figure = WeightedFigure([0, 1, 1], [[1, 0], [0, 1], [1, 0]], metric="accuracy")
        >>> figure(np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 1.0]]))
        array([0.66666667, 0.75      ])
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray, *, metric: Metric) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
        self.labels, scores = check_labeled(labels, logits)
        self.metric = metric
        self.num_classes = scores.shape[1]
        self.correct = (scores.argmax(axis=1) == self.labels).astype(np.float64)
        self.probabilities = softmax(scores)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute the figure for each column of ``weights`` (N, R) >= 0; (R,), NaN where it has no value."""
        if self.metric == "accuracy":
            return _ratio(self.correct @ weights, weights.sum(axis=0))
        if self.metric == "balanced_accuracy":
            members = np.eye(self.num_classes)[self.labels].T
            return _ratio((members * self.correct) @ weights, members @ weights).mean(axis=0)
        # with two classes the areas of both are the same
        columns = [1] if self.num_classes == 2 else range(self.num_classes)
        areas = [weighted_auroc(self.labels == index, self.probabilities[:, index], weights) for index in columns]
        return np.mean(areas, axis=0)


def weighted_auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Area under the ROC curve for each column of weights.

    .. math:: \mathrm{AUROC}_r = \frac{\sum_{i \in P} w_{ir} \left(
              \sum_{j \in N: s_j < s_i} w_{jr} + \tfrac12 \sum_{j \in N: s_j = s_i} w_{jr} \right)}
              {\sum_{i \in P} w_{ir} \sum_{j \in N} w_{jr}}

    The negatives are sorted once; their cumulated weights answer both inner sums by looking up where s_i stands.

    Args:
        positive: bool (N,).
        scores: (N,).
        weights: (N, R) >= 0.

    Returns:
        (R,), NaN where a side has no weight.
    """
    order = np.flatnonzero(~positive)
    order = order[np.argsort(scores[order], kind="stable")]
    below = np.zeros((len(order) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])
    left = np.searchsorted(scores[order], scores[positive], side="left")
    right = np.searchsorted(scores[order], scores[positive], side="right")
    chosen = weights[positive]
    wins = np.einsum("ir,ir->r", chosen, below[left]) + np.einsum("ir,ir->r", chosen, below[right])
    return _ratio(wins / 2, chosen.sum(axis=0) * below[-1])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
