"""Areas under the ROC and precision-recall curves for many weightings of the same scores at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Ranking", "RankingSums", "weighted_auroc", "weighted_average_precision"]


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
        positive: bool (N,).
        scores: (N,).

    Example:
        >>> ranking = Ranking(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]))
        >>> ranking(np.array([[1.0, 3.0], [1.0, 1.0], [1.0, 1.0]])).auroc()
        array([0.5 , 0.75])
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray) -> None:
        from scipy.sparse import csr_array

        distinct = np.unique(scores[positive])
        rows, columns = np.flatnonzero(positive), np.flatnonzero(~positive)

        def sums(places: np.ndarray, images: np.ndarray, count: int) -> csr_array:
            return csr_array((np.ones(len(images)), (places, images)), shape=(count, len(scores)))

        place = np.searchsorted(distinct, scores[columns], side="right")
        tied = np.isin(scores[columns], distinct)
        self._at = sums(np.searchsorted(distinct, scores[rows]), rows, len(distinct))
        self._between = sums(place, columns, len(distinct) + 1)
        self._tied = sums(place[tied] - 1, columns[tied], len(distinct)) if tied.any() else None

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
