"""Sets of classes that hold the true one with a chosen probability: split conformal prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.evaluation.checks import UndefinedMetricError, check_finite, check_labeled
from movl_monai.evaluation.metrics import softmax

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
    """Thresholds that turn logits into sets of classes.

    Args:
        method: which score the thresholds are of; see :func:`conformal_scores`.
        alpha: how often the true class may be missing.
        per_class: whether every class was given a threshold of its own, so that each is covered.
        thresholds: float64 (C,), largest score with which a class belongs to a set; infinite for a class that has too
            few images and therefore belongs to every set; all alike unless ``per_class``.
        n: number of images that gave them.
        short: classes whose threshold is infinite.
    """

    method: ConformalMethod
    alpha: float
    per_class: bool
    thresholds: np.ndarray = field(repr=False)
    n: int
    short: tuple[int, ...] = ()

    def sets(self, logits: ArrayLike, *, seed: int = 0) -> np.ndarray:
        """Which classes belong to the set of each image.

        Args:
            logits: (N, C), before softmax.
            seed: of the one random number per image of "aps_randomised".

        Returns:
            bool (N, C). With "lac" a set is empty where no class is likely enough. With "aps" none is: its score is
            large where the network is sure, so that without the most likely class the surest images would have empty
            sets; with it the coverage is only higher. With "aps_randomised" sets are the paper's, empty by chance.

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
    r"""How badly each class fits each image; the smaller, the better.

    With the classes of an image sorted from the most to the least likely, equal ones by their number:

    - "lac": :math:`s(x, y) = 1 - p_y`; the smallest sets on average, uneven over easy and hard images.
    - "aps": :math:`s(x, y)` = probability of y and of all classes in front of it; deterministic.
    - "aps_randomised": the same with :math:`u \, p_y` for the own probability, u uniform in [0, 1], one per image: the
      score of the paper, with smaller sets than "aps", but two runs with other seeds give other sets.

    Args:
        probabilities: (N, C), rows add up to 1.
        method: which score.
        seed: of u.

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
    through[:, -1] = 1.0  # rounding must not decide whether the last class is in
    cumulated = np.empty_like(through)
    np.put_along_axis(cumulated, order, through, axis=1)
    if method == "aps":
        return cumulated
    u = np.random.default_rng(seed).random((len(probability), 1))
    return cumulated - (1 - u) * probability


def smallest_alpha(n: int) -> float:
    """The smallest share of misses that n calibration images can promise, 1 / (n + 1).

    Example:
        >>> smallest_alpha(19)
        0.05
    """
    return 1 / (n + 1)


def conformal_threshold(scores: ArrayLike, *, alpha: float) -> float:
    r"""The :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of the scores of the true classes.

    A new image, exchangeable with these n, has a true class with at most that score with probability at least
    :math:`1 - \alpha`, and at most :math:`1 - \alpha + 1 / (n + 1)` where no scores are equal.

    Args:
        scores: of the true class of each calibration image, (n,).
        alpha: how often the true class may be missing, in (0, 1).

    Raises:
        ValueError: if alpha is not in (0, 1).
        UndefinedMetricError: if n is too small for alpha; the message says the smallest alpha and the n needed.

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
    # (n + 1) alpha is often meant to be whole, 100 * 0.3 say, and must not be missed by a rounding error
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
    """Find thresholds on calibration images that neither trained the network nor selected it.

    Args:
        labels: integers (n,) in [0, C).
        logits: (n, C), before softmax.
        alpha: how often the true class may be missing, in (0, 1).
        method: score; see :func:`conformal_scores`.
        per_class: promise the coverage for every class by itself (Mondrian), which needs enough images of each; a class
            with too few is put into every set, which covers it.
        seed: of "aps_randomised".

    Raises:
        ValueError: if shapes, labels, alpha or method do not fit.
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
