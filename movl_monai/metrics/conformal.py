"""Split conformal prediction: prediction sets that contain the true class with a chosen probability."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.checks import UndefinedMetricError, check_finite, check_labeled
from movl_monai.metrics.classification_metrics import softmax

__all__ = [
    "ConformalFit",
    "ConformalMethod",
    "conformal_scores",
    "conformal_threshold",
    "fit_conformal",
    "smallest_alpha",
]

ConformalMethod = Literal["lac", "aps", "aps_randomised"]
_METHODS: tuple[ConformalMethod, ...] = ("lac", "aps", "aps_randomised")


@dataclass(frozen=True, kw_only=True)
class ConformalFit:
    """Thresholds that turn logits into prediction sets.

    Args:
        method: score of the thresholds; see :func:`conformal_scores`.
        alpha: allowed rate of missing the true class.
        per_class: whether every class has its own threshold, for coverage per class.
        thresholds: float64 (C,), largest score of a class in a set. It is infinite for a class with too few images,
            which is therefore in every set. All are equal unless ``per_class``.
        n: number of calibration images.
        short: classes with an infinite threshold.
    """

    method: ConformalMethod
    alpha: float
    per_class: bool
    thresholds: np.ndarray = field(repr=False)
    n: int
    short: tuple[int, ...] = ()

    def sets(self, logits: ArrayLike, *, seed: int = 0) -> np.ndarray:
        """Return the prediction set of each image.

        Args:
            logits: (N, C), before softmax.
            seed: seed of the random number per image of "aps_randomised".

        Returns:
            bool (N, C). With "lac" a set is empty if no class is likely enough. With "aps" no set is empty: the most
            likely class is always included. Otherwise the most certain images would have empty sets, because their
            score is large; the inclusion can only raise the coverage. With "aps_randomised" the sets are those of the
            paper and may be empty by chance.

        Raises:
            ValueError: if the number of classes differs.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        score = np.asarray(logits, dtype=np.float64)
        if score.ndim != 2 or score.shape[1] != len(self.thresholds):
            raise ValueError(f"logits must be (N, {len(self.thresholds)}), got {score.shape}.")
        check_finite(score)
        sets = conformal_scores(softmax(score), method=self.method, seed=seed) <= self.thresholds
        if self.method == "aps":
            sets[np.arange(len(sets)), score.argmax(axis=1)] = True
        return sets


def conformal_scores(probabilities: ArrayLike, *, method: ConformalMethod = "lac", seed: int = 0) -> np.ndarray:
    r"""Compute the nonconformity score of each class for each image; smaller is better.

    The classes of an image are sorted from the most to the least likely, ties by class number:

    - "lac": :math:`s(x, y) = 1 - p_y`; the smallest sets on average, but uneven between easy and hard images.
    - "aps": :math:`s(x, y)` is the probability of y and of all classes before it; deterministic.
    - "aps_randomised": as "aps", with :math:`u \, p_y` in place of the own probability, u uniform in [0, 1], one per
      image. This is the score of the paper. Its sets are smaller than with "aps", but differ between seeds.

    Args:
        probabilities: (N, C), rows add up to 1.
        method: kind of score.
        seed: seed of u.

    Returns:
        float64 (N, C).

    Raises:
        ValueError: for another method.

    Reference:
        Sadinle, Lei, Wasserman: Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 2019 (LAC);
        Romano, Sesia, Candès: Classification with Valid and Adaptive Coverage, NeurIPS 2020 (APS).

    Example:
        >>> conformal_scores([[0.5, 0.25, 0.25]], method="aps")
        array([[0.5 , 0.75, 1.  ]])
    """
    probability = np.asarray(probabilities, dtype=np.float64)
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}.")
    if method == "lac":
        return 1 - probability
    order = np.argsort(-probability, axis=1, kind="stable")
    through = np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1)
    through[:, -1] = 1.0  # rounding must not exclude the last class
    cumulated = np.empty_like(through)
    np.put_along_axis(cumulated, order, through, axis=1)
    if method == "aps":
        return cumulated
    u = np.random.default_rng(seed).random((len(probability), 1))
    return cumulated - (1 - u) * probability


def smallest_alpha(n: int) -> float:
    """Return the smallest alpha that n calibration images can guarantee, 1 / (n + 1).

    Example:
        >>> smallest_alpha(19)
        0.05
    """
    return 1 / (n + 1)


def conformal_threshold(scores: ArrayLike, *, alpha: float) -> float:
    r"""Return the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of the scores of the true classes.

    Let p be the probability that the true class of a new exchangeable image has a score of at most this threshold. Then
    :math:`p \ge 1 - \alpha`, and if no scores are equal :math:`p \le 1 - \alpha + 1 / (n + 1)`.

    Args:
        scores: score of the true class of each calibration image, (n,).
        alpha: allowed rate of missing the true class, in (0, 1).

    Raises:
        ValueError: if alpha is not in (0, 1).
        UndefinedMetricError: if n is too small for alpha; the message gives the smallest alpha and the n needed.

    Reference:
        Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005; Angelopoulos, Bates: A Gentle
        Introduction to Conformal Prediction, 2021, section 1.

    Example:
        >>> conformal_threshold([0.1, 0.2, 0.3, 0.4], alpha=0.25)  # the fourth of four: ceil(5 * 0.75)
        0.4
    """
    score = np.asarray(scores, dtype=np.float64)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}.")
    if score.ndim != 1 or np.isnan(score).any():
        raise ValueError(f"scores must be (n,) without NaN, got {score.shape}.")
    n = len(score)
    # (n + 1) alpha is often meant to be an integer, such as 100 * 0.3, and must not be missed by a rounding error
    rank = n + 1 - int(np.floor((n + 1) * alpha + 1e-9))
    if rank > n:
        raise UndefinedMetricError(
            f"{n} calibration images are too few for alpha={alpha:g}: the smallest possible alpha is "
            f"1/{n + 1} = {smallest_alpha(n):.4g}. Ask for that, or give {int(np.ceil(1 / alpha - 1e-9)) - 1} or more."
        )
    return float(np.partition(score, rank - 1)[rank - 1])


def fit_conformal(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    alpha: float = 0.1,
    method: ConformalMethod = "lac",
    per_class: bool = False,
    seed: int = 0,
) -> ConformalFit:
    """Fit thresholds on calibration images that were used neither for training nor for selection.

    Args:
        labels: integers (n,) in [0, C).
        logits: (n, C), before softmax.
        alpha: allowed rate of missing the true class, in (0, 1).
        method: score; see :func:`conformal_scores`.
        per_class: guarantee the coverage of every class separately (Mondrian), which needs enough images of each. A
            class with too few images is included in every set, which covers it.
        seed: seed of "aps_randomised".

    Raises:
        ValueError: if shapes, labels, alpha or method are invalid.
        UndefinedMetricError: if there are too few images, or with ``per_class`` too few of every class.
        NonFiniteLogitsError: if a logit is NaN or infinite.

    Example:
        >>> labels, logits = np.array([0, 1] * 10), np.array([[2.0, 0.0], [0.0, 1.0]] * 10)
        >>> fit_conformal(labels, logits, alpha=0.1).sets([[0.0, 5.0], [0.0, 0.1]]).tolist()
        [[False, True], [False, False]]
    """
    label, score = check_labeled(labels, logits)
    scores = conformal_scores(softmax(score), method=method, seed=seed)
    own = scores[np.arange(len(label)), label]
    num_classes, short = score.shape[1], []
    if not per_class:
        thresholds = np.full(num_classes, conformal_threshold(own, alpha=alpha))
    else:
        thresholds = np.full(num_classes, np.inf)
        for index in range(num_classes):
            try:
                thresholds[index] = conformal_threshold(own[label == index], alpha=alpha)
            except UndefinedMetricError:
                short.append(index)
        if len(short) == num_classes:
            most = int(np.bincount(label, minlength=num_classes).max())
            raise UndefinedMetricError(
                f"No class has enough calibration images for alpha={alpha:g}: the largest has {most}, for which the "
                f"smallest possible alpha is 1/{most + 1} = {smallest_alpha(most):.4g}."
            )
    facts = {"method": method, "alpha": alpha, "per_class": per_class, "n": len(label)}
    return ConformalFit(thresholds=thresholds, short=tuple(short), **facts)  # type: ignore[arg-type]
