"""Figures under many weightings of the same images at once, as a bootstrap needs them.

A bootstrap round draws images with replacement; drawing image i k times gives it the weight k. So R rounds are one
matrix of weights (N, R), and each figure is a few matrix operations instead of R passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import check_labeled, softmax
from movl_monai.metrics.declared import CLASS_FIGURES, Declared, Metric, TaskFigures, WeightedSums, ratio

__all__ = [
    "METRICS",
    "Metric",
    "Ranking",
    "RankingSums",
    "WeightedFigure",
    "WeightedFigures",
    "weighted_auroc",
    "weighted_average_precision",
    "weighted_functions",
]


@dataclass(frozen=True)
class RankingSums:
    """Weights of positives and negatives along the K distinct scores of positives, in ascending order.

    Args:
        at: weight of the positives with each score, (K, R).
        below: weight of the negatives with a smaller score, (K, R).
        tied: weight of the negatives with that score, (K, R), or 0.0 if there are none in any round.
        negative: weight of all negatives, (R,).
    """

    at: np.ndarray
    below: np.ndarray
    tied: np.ndarray | float
    negative: np.ndarray

    def auroc(self) -> np.ndarray:
        r"""Area under the ROC curve, (R,), NaN if a side has no weight.

        .. math:: \mathrm{AUROC} = \frac{\sum_k p_k \left( b_k + \tfrac12 t_k \right)}{\sum_k p_k \; N}
        """
        wins = np.einsum("kr,kr->r", self.at, self.below + 0.5 * self.tied)
        return _ratio(wins, self.at.sum(axis=0) * self.negative)

    def average_precision(self) -> np.ndarray:
        r"""Average precision, (R,), NaN if a side has no weight.

        .. math:: \mathrm{AP} = \sum_k \frac{p_k}{\sum_j p_j} \; \frac{P_k}{P_k + N - b_k},
                  \quad P_k = \sum_{j \ge k} p_j

        Each term is the recall gained at the k-th positive score times the precision at that threshold.
        """
        found = np.cumsum(self.at[::-1], axis=0)[::-1]
        precision = _ratio(found, found + self.negative - self.below)
        positive = self.at.sum(axis=0)
        result = _ratio(np.einsum("kr,kr->r", self.at, np.nan_to_num(precision)), positive)
        return np.where(self.negative > 0, result, np.nan)


class Ranking:
    """Ranking of positives and negatives by score: sorted once, then summed for any weighting.

    Each negative is assigned to an interval between two scores of positives. A weighting then costs one product with a
    sparse matrix that has a single 1 per image, and one cumulative sum.

    Args:
        positive: bool (M,).
        scores: (M,).
        rows: image of each score, (M,), for images with none or several; None for one score per image.
        count: number of images N; None takes M.

    Example:
        >>> ranking = Ranking(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]))
        >>> ranking(np.array([[1.0, 3.0], [1.0, 1.0], [1.0, 1.0]])).auroc()
        array([0.5 , 0.75])
    """

    def __init__(
        self, positive: np.ndarray, scores: np.ndarray, *, rows: np.ndarray | None = None, count: int | None = None
    ) -> None:
        from scipy.sparse import csr_array

        images = np.arange(len(scores)) if rows is None else rows
        width = len(scores) if count is None else count
        distinct = np.unique(scores[positive])

        def sums(places: np.ndarray, owners: np.ndarray, height: int) -> csr_array:
            return csr_array((np.ones(len(owners)), (places, owners)), shape=(height, width))

        negative, owners = scores[~positive], images[~positive]
        place = np.searchsorted(distinct, negative, side="right")
        tied = np.isin(negative, distinct)
        self._at = sums(np.searchsorted(distinct, scores[positive]), images[positive], len(distinct))
        self._between = sums(place, owners, len(distinct) + 1)
        self._tied = sums(place[tied] - 1, owners[tied], len(distinct)) if tied.any() else None

    def __call__(self, weights: np.ndarray) -> RankingSums:
        """Sum the weights (N, R) >= 0."""
        below = np.cumsum(self._between @ weights, axis=0)
        tied = 0.0 if self._tied is None else self._tied @ weights
        return RankingSums(self._at @ weights, below[:-1], tied, below[-1])


def weighted_auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve for each column of weights.

    Args:
        positive: bool (N,).
        scores: (N,).
        weights: (N, R) >= 0.

    Returns:
        (R,), NaN if a side has no weight.
    """
    return Ranking(positive, scores)(weights).auroc()


def weighted_average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the average precision for each column of weights; arguments and result as in :func:`weighted_auroc`."""
    return Ranking(positive, scores)(weights).average_precision()


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def weighted_functions(figures: TaskFigures = CLASS_FIGURES) -> dict[str, Callable[[WeightedSums], np.ndarray]]:
    """Return the functions of the figures that have intervals by name."""
    declared = {name: figure for name, figure in figures.declared.items() if isinstance(figure, Declared)}
    return {name: figure.weighted for name, figure in declared.items() if figure.weighted is not None}


METRICS: tuple[Metric, ...] = get_args(Metric)


class WeightedFigures:
    """Figures of fixed labels and logits as a function of the image weights.

    Means over classes are macro; those with ``_weighted`` weight the classes by their images. Both are undefined if a
    class has no weight. With two classes, both have the same area under the ROC curve.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        metrics: names of :data:`METRICS`, or of other figures; None takes all.
        figures: figures of the task, and its predicted class.

    Raises:
        ValueError: if a metric is unknown or the shapes do not match.

    Example:
        >>> figures = WeightedFigures([0, 1, 1], [[1, 0], [0, 1], [1, 0]], metrics=["accuracy"])
        >>> figures(np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 1.0]]))
        {'accuracy': array([0.66666667, 0.75      ])}
    """

    def __init__(
        self,
        labels: ArrayLike,
        logits: ArrayLike,
        *,
        metrics: Sequence[str] | None = None,
        figures: TaskFigures = CLASS_FIGURES,
    ) -> None:
        known = weighted_functions(figures)
        names = tuple(known) if metrics is None else tuple(metrics)
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"metric must be one of {', '.join(known)}, got {unknown[0]!r}.")
        from scipy.sparse import csr_array
        from scipy.special import log_softmax

        self.labels, scores = check_labeled(labels, logits)
        self.functions = {name: known[name] for name in names}
        count, self.num_classes = scores.shape
        self.probabilities = softmax(scores)
        truth = np.eye(self.num_classes)[self.labels]
        self._losses = -log_softmax(scores, axis=1)[np.arange(count), self.labels]
        self._squares = np.sum((self.probabilities - truth) ** 2, axis=1)
        cells = self.labels * self.num_classes + figures.decide(scores)
        # a 1 per image, in the row of its cell in the confusion matrix
        self._cells = csr_array((np.ones(count), (cells, np.arange(count))), shape=(self.num_classes**2, count))
        self._rankings: dict[int, Ranking] = {}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the figures for each column of ``weights`` (N, R) >= 0; (R,) each, NaN if undefined."""
        sums = _Sums(self, weights)
        return {name: function(sums) for name, function in self.functions.items()}

    def per_class(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """``sensitivity``, ``specificity``, ``auroc``, ``average_precision`` of each class against all others, (C, R).

        NaN if one side has no weight.
        """
        sums = _Sums(self, weights)
        return {
            "sensitivity": sums.sensitivities,
            "specificity": sums.specificity(),
            "auroc": sums.areas,
            "average_precision": sums.precisions,
        }

    def ranking(self, index: int) -> Ranking:
        """Return the ranking of one class against all others."""
        if index not in self._rankings:
            self._rankings[index] = Ranking(self.labels == index, self.probabilities[:, index])
        return self._rankings[index]


class WeightedFigure:
    """One figure of :class:`WeightedFigures`.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        metric: a name of :data:`METRICS`, or of another figure.
        figures: see :class:`WeightedFigures`.

    Example:
        >>> figure = WeightedFigure([0, 1, 1], [[1, 0], [0, 1], [1, 0]], metric="accuracy")
        >>> figure(np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 1.0]]))
        array([0.66666667, 0.75      ])
    """

    def __init__(
        self, labels: ArrayLike, logits: ArrayLike, *, metric: str, figures: TaskFigures = CLASS_FIGURES
    ) -> None:
        self.metric = metric
        self._figures = WeightedFigures(labels, logits, metrics=[metric], figures=figures)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute the figure for each column of ``weights`` (N, R) >= 0; (R,), NaN if undefined."""
        return self._figures(weights)[self.metric]


class _Sums:
    """Sums over one matrix of weights: the :class:`~movl_monai.metrics.declared.WeightedSums` of the figures."""

    def __init__(self, figures: WeightedFigures, weights: np.ndarray) -> None:
        self.figures = figures
        self.weights = np.ascontiguousarray(weights, dtype=np.float64)
        self.losses, self.squares = figures._losses, figures._squares
        self._rankings: dict[int, RankingSums] = {}

    @cached_property
    def matrix(self) -> np.ndarray:
        """Label by predicted class, (C, C, R)."""
        count = self.figures.num_classes
        return (self.figures._cells @ self.weights).reshape(count, count, -1)

    @cached_property
    def total(self) -> np.ndarray:
        return self.matrix.sum(axis=(0, 1))

    @cached_property
    def sensitivities(self) -> np.ndarray:
        diagonal = np.einsum("iir->ir", self.matrix)
        return ratio(diagonal, self.matrix.sum(axis=1))

    def specificity(self) -> np.ndarray:
        others = self.total - self.matrix.sum(axis=1)
        false_positives = self.matrix.sum(axis=0) - np.einsum("iir->ir", self.matrix)
        return ratio(others - false_positives, others)

    @cached_property
    def areas(self) -> np.ndarray:
        if self.figures.num_classes == 2:  # of the second class, as in scikit-learn
            return np.stack([self._ranking(1).auroc()] * 2)
        return np.stack([self._ranking(index).auroc() for index in range(self.figures.num_classes)])

    @cached_property
    def precisions(self) -> np.ndarray:
        return np.stack([self._ranking(index).average_precision() for index in range(self.figures.num_classes)])

    def _ranking(self, index: int) -> RankingSums:
        if index not in self._rankings:
            self._rankings[index] = self.figures.ranking(index)(self.weights)
        return self._rankings[index]
