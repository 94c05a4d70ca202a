"""Figures of several findings and of a number under many weightings of the same images, as a bootstrap needs them.

See :mod:`movl_monai.metrics.weighted` for those of classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.weighted import Ranking

__all__ = ["WeightedErrors", "WeightedFindings"]


class WeightedFindings:
    """Macro AUROC and binary cross entropy of fixed labels and logits as a function of the image weights.

    The macro AUROC is the mean over the findings that have weight on images with and without them. The cross entropy is
    the mean over all known labels, in nats.

    Args:
        labels: 1, 0 or NaN (unknown), (N, K).
        logits: (N, K), before the sigmoid.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> labels = [[1, 0], [0, float("nan")], [1, 1]]
        >>> figures = WeightedFindings(labels, [[2.0, 0.0], [1.0, 9.0], [0.5, 1.0]])
        >>> figures(np.ones((3, 1)))["macro_auroc"]
        array([0.75])
    """

    def __init__(self, labels: ArrayLike, logits: ArrayLike) -> None:
        truth, scores = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
        if truth.ndim != 2 or truth.shape != scores.shape:
            raise ValueError(f"labels and logits must both be (N, K), got {truth.shape} and {scores.shape}.")
        known = ~np.isnan(truth)
        self._rows = [np.flatnonzero(column) for column in known.T]
        self._rankings = [
            Ranking(truth[rows, k] == 1, scores[rows, k]) if len(rows) else None for k, rows in enumerate(self._rows)
        ]
        # log(1 + exp(z)) - y z, which loses no digits
        losses = np.logaddexp(0, scores) - np.where(known, truth, 0) * scores
        self._losses, self._known = np.where(known, losses, 0).sum(axis=1), known.sum(axis=1).astype(float)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute ``macro_auroc`` and ``cross_entropy`` for each column of ``weights`` (N, R) >= 0; (R,) each.

        NaN if undefined.
        """
        areas = self.auroc(weights)
        defined = ~np.isnan(areas)
        total = self._known @ weights
        return {
            "macro_auroc": _ratio(np.where(defined, areas, 0).sum(axis=0), defined.sum(axis=0)),
            "cross_entropy": _ratio(self._losses @ weights, total),
        }

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Compute the area under the ROC curve of each finding, (K, R); NaN if a side has no weight."""
        return np.stack(
            [
                np.full(weights.shape[1], np.nan) if ranking is None else ranking(weights[rows]).auroc()
                for ranking, rows in zip(self._rankings, self._rows, strict=True)
            ]
        )


class WeightedErrors:
    """Mean absolute and mean squared error of fixed numbers and predictions as a function of the image weights.

    Args:
        labels: the numbers, NaN if unknown, (N,).
        predictions: (N,) or (N, 1), in the same units.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> WeightedErrors([1.0, 2.0, float("nan")], [1.0, 4.0, 0.0])(np.ones((3, 1)))
        {'mean_absolute_error': array([1.]), 'mean_squared_error': array([2.])}
    """

    def __init__(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        truth, given = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
        if truth.ndim != 1 or given.size != truth.size:
            raise ValueError(f"labels and predictions must both be (N,), got {truth.shape} and {given.shape}.")
        self._known = ~np.isnan(truth)
        self._errors = np.where(self._known, np.abs(given.reshape(-1) - truth), 0.0)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute both errors for each column of ``weights`` (N, R) >= 0; (R,) each, NaN without weight."""
        total = self._known.astype(float) @ weights
        return {
            "mean_absolute_error": _ratio(self._errors @ weights, total),
            "mean_squared_error": _ratio(self._errors**2 @ weights, total),
        }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
