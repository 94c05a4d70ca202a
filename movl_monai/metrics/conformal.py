"""Split conformal prediction: prediction sets that contain the true class with a chosen probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import (
    UndefinedMetricError,
    check_finite,
    check_labeled,
    median_grade,
    softmax,
)
from movl_monai.metrics.entries import Conformal, ConformalSets, SetFigures
from movl_monai.metrics.stored.predictions import Predictions

__all__ = [
    "CLASS_METHODS",
    "METHODS",
    "RANGE_METHODS",
    "ConformalFit",
    "ConformalMethod",
    "binomial_interval",
    "conformal_report",
    "conformal_scores",
    "conformal_threshold",
    "fit_conformal",
    "one_per_patient",
    "set_figures",
    "smallest_alpha",
]

ConformalMethod = Literal["lac", "aps", "aps_randomised", "ordinal_aps"]
_METHODS: tuple[ConformalMethod, ...] = get_args(ConformalMethod)
# names in a report's entry "conformal": (method, per_class)
METHODS: dict[str, tuple[ConformalMethod, bool]] = {
    "lac": ("lac", False),
    "aps": ("aps", False),
    "aps_randomised": ("aps_randomised", False),
    "lac_per_class": ("lac", True),
    "aps_per_class": ("aps", True),
    "ordinal_aps": ("ordinal_aps", False),
    "ordinal_aps_per_class": ("ordinal_aps", True),
}
RANGE_METHODS = ("ordinal_aps", "ordinal_aps_per_class")
"""Methods for grades, whose sets have no gaps."""
CLASS_METHODS = tuple(name for name in METHODS if name not in RANGE_METHODS)
"""Methods for classes without an order."""


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
            paper and may be empty by chance. With "ordinal_aps" a set is a range of grades without gaps around the
            median grade, which is always included; so is a grade between two others in it, which can only raise the
            coverage.

        Raises:
            ValueError: if the number of classes differs.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        score = np.asarray(logits, dtype=np.float64)
        if score.ndim != 2 or score.shape[1] != len(self.thresholds):
            raise ValueError(f"logits must be (N, {len(self.thresholds)}), got {score.shape}.")
        check_finite(score)
        probability = softmax(score)
        sets = conformal_scores(probability, method=self.method, seed=seed) <= self.thresholds
        if self.method == "aps":
            sets[np.arange(len(sets)), score.argmax(axis=1)] = True
        if self.method == "ordinal_aps":
            sets[np.arange(len(sets)), median_grade(probability)] = True
            sets = np.maximum.accumulate(sets, axis=1) & np.maximum.accumulate(sets[:, ::-1], axis=1)[:, ::-1]
        return sets


def conformal_scores(probabilities: ArrayLike, *, method: ConformalMethod = "lac", seed: int = 0) -> np.ndarray:
    r"""Compute the nonconformity score of each class for each image; smaller is better.

    The classes of an image are sorted from the most to the least likely, ties by class number:

    - "lac": :math:`s(x, y) = 1 - p_y`; the smallest sets on average, but uneven between easy and hard images.
    - "aps": :math:`s(x, y)` is the probability of y and of all classes before it; deterministic.
    - "aps_randomised": as "aps", with :math:`u \, p_y` in place of the own probability, u uniform in [0, 1], one per
      image. This is the score of the paper. Its sets are smaller than with "aps", but differ between seeds.
    - "ordinal_aps", for grades: a range begins with the median grade and grows by its more likely neighbour, the higher
      one of equal ones, until it holds all grades. :math:`s(x, y)` is the probability of the first range with y.

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
        Romano, Sesia, Candès: Classification with Valid and Adaptive Coverage, NeurIPS 2020 (APS); Lu, Angelopoulos,
        Pomerantz: Improving Trustworthiness of AI Disease Severity Rating in Medical Imaging with Ordinal Conformal
        Prediction Sets, MICCAI 2022 (ordinal APS). Deviation: their ranges begin with the most likely grade; here the
        median is the predicted grade.

    Example:
        >>> conformal_scores([[0.5, 0.25, 0.25]], method="aps")
        array([[0.5 , 0.75, 1.  ]])
    """
    probability = np.asarray(probabilities, dtype=np.float64)
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}.")
    if method == "lac":
        return 1 - probability
    if method == "ordinal_aps":
        return _range_scores(probability)
    order = np.argsort(-probability, axis=1, kind="stable")
    through = np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1)
    through[:, -1] = 1.0  # rounding must not exclude the last class
    cumulated = np.empty_like(through)
    np.put_along_axis(cumulated, order, through, axis=1)
    if method == "aps":
        return cumulated
    u = np.random.default_rng(seed).random((len(probability), 1))
    return cumulated - (1 - u) * probability


def _range_scores(probability: np.ndarray) -> np.ndarray:
    """Return the probability of the smallest range of grades around the median with each grade, (N, C)."""
    rows, count = np.arange(len(probability)), probability.shape[1]
    low = median_grade(probability)
    high = low.copy()
    held = probability[rows, low]
    scores = np.empty_like(probability)
    scores[rows, low] = held
    # a column without probability at either end, which is never taken
    padded = np.pad(probability, ((0, 0), (1, 1)), constant_values=-1.0)
    for _ in range(count - 1):
        below, above = padded[rows, low], padded[rows, high + 2]
        up = above >= below
        held = held + np.where(up, above, below)
        low, high = np.where(up, low, low - 1), np.where(up, high + 1, high)
        scores[rows, np.where(up, high, low)] = held
    scores[rows, np.where(up, high, low)] = 1.0  # rounding must not exclude the last grade
    return scores


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


def conformal_report(
    sections: Mapping[str, Predictions],
    *,
    class_names: Sequence[str],
    calibrated_on: str = "calibration",
    alpha: float = 0.1,
    methods: Sequence[str] = CLASS_METHODS,
    single_image: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Conformal:
    """Fit thresholds on one section, and measure coverage and set size on all others.

    Args:
        sections: images by section; images without a label are left out.
        class_names: names in the order of the logits.
        calibrated_on: section that the thresholds are fitted on.
        alpha: allowed rate of missing the true class, in (0, 1).
        methods: names of :data:`METHODS`.
        single_image: calibrate on one randomly drawn image of each patient. Patients are exchangeable, images of one
            patient are not.
        level: confidence level of the exact binomial intervals (Clopper-Pearson), which treat images as independent.
        seed: seed of the draws.

    Returns:
        ``alpha``; ``smallest_alpha``; ``calibrated_on``: ``split``, ``n``; ``methods``: for each name ``randomised``,
        ``per_class``, ``threshold`` (None with thresholds per class), ``thresholds`` (of each class; None for a class
        with too few images, which is in every set), ``sections`` with the entries of :func:`set_figures`, and its own
        ``notes``; general ``notes``. A method that could not be fitted has no thresholds and no sections; its notes
        give the smallest possible alpha.

    Raises:
        ValueError: for an unknown method or an alpha that is not in (0, 1).
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"methods must be of {', '.join(METHODS)}, got {unknown[0]!r}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}.")
    known = {name: images.labeled() for name, images in sections.items()}
    source = known.pop(calibrated_on, None)
    if source is None or not len(source):
        why = f"No conformal sets: there are no labeled images in '{calibrated_on}'."
        return {
            "alpha": alpha,
            "smallest_alpha": None,
            "calibrated_on": {"split": calibrated_on, "n": 0},
            "methods": {},
            "notes": [why],
        }
    notes = _notes(source, calibrated_on, single_image)
    source = one_per_patient(source, seed=seed) if single_image else source
    fitted: dict[str, ConformalSets] = {}
    for name in methods:
        own: list[str] = []
        fit = _fit(name, source, alpha, seed, own, class_names)
        fitted[name] = {
            "randomised": name == "aps_randomised",
            "per_class": METHODS[name][1],
            "notes": own,
            "threshold": None if fit is None or fit.per_class else float(fit.thresholds[0]),
            "thresholds": None if fit is None else _thresholds(fit, class_names),
            "sections": {} if fit is None else _sections(fit, known, class_names, level, seed),
        }
    return {
        "alpha": alpha,
        "smallest_alpha": smallest_alpha(len(source)),
        "calibrated_on": {"split": calibrated_on, "n": len(source)},
        "methods": fitted,
        "notes": notes,
    }


def set_figures(labels: np.ndarray, sets: np.ndarray, *, class_names: Sequence[str], level: float = 0.95) -> SetFigures:
    """Compute coverage and size of prediction sets.

    Args:
        labels: integers (N,) in [0, C), N > 0.
        sets: bool (N, C).
        class_names: the C names.
        level: confidence level of the intervals.

    Returns:
        ``n``; ``coverage``: share of sets that contain the label, and ``coverage_interval``; ``mean_size``; ``sizes``:
        number of sets by size, "0" to "C"; ``per_class_coverage`` and ``per_class_interval`` by name, None without
        images.

    Example:
        >>> figures = set_figures(np.array([0, 1]), np.array([[True, False], [True, False]]), class_names=["a", "b"])
        >>> figures["coverage"], figures["mean_size"], figures["sizes"], figures["per_class_coverage"]
        (0.5, 1.0, {'0': 0, '1': 2, '2': 0}, {'a': 1.0, 'b': 0.0})
    """
    covered, size = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    hits = {str(name): covered[labels == index] for index, name in enumerate(class_names)}
    counts = np.bincount(size, minlength=len(class_names) + 1)
    return {
        "n": len(labels),
        "coverage": float(covered.mean()),
        "coverage_interval": binomial_interval(int(covered.sum()), len(labels), level=level),
        "mean_size": float(size.mean()),
        "sizes": {str(index): int(count) for index, count in enumerate(counts)},
        "per_class_coverage": {name: float(hit.mean()) if len(hit) else None for name, hit in hits.items()},
        "per_class_interval": {
            name: binomial_interval(int(hit.sum()), len(hit), level=level) if len(hit) else None
            for name, hit in hits.items()
        },
    }


def binomial_interval(hits: int, n: int, *, level: float = 0.95) -> list[float]:
    """Return the exact confidence interval [low, high] of the share ``hits / n`` of n independent images.

    Reference:
        Clopper, Pearson: The Use of Confidence or Fiducial Limits, Biometrika 26, 1934.

    Example:
        >>> [round(bound, 4) for bound in binomial_interval(9, 10)]
        [0.555, 0.9975]
    """
    from scipy.stats import binomtest

    found = binomtest(hits, n).proportion_ci(confidence_level=level, method="exact")
    return [float(found.low), float(found.high)]


def one_per_patient(images: Predictions, *, seed: int = 0) -> Predictions:
    """Draw one image of each patient at random; an image without a patient counts as a separate patient."""
    order = np.random.default_rng(seed).permutation(len(images))
    patients = [images.patients[row] or ("image", int(row)) for row in order]
    first = {patient: int(row) for patient, row in reversed(list(zip(patients, order, strict=True)))}
    return images.take(sorted(first.values()))


def _fit(
    name: str, source: Predictions, alpha: float, seed: int, notes: list[str], class_names: Sequence[str]
) -> ConformalFit | None:
    method, per_class = METHODS[name]
    try:
        fit = fit_conformal(source.labels, source.logits, alpha=alpha, method=method, per_class=per_class, seed=seed)
    except UndefinedMetricError as reason:
        notes.append(str(reason))
        return None
    if fit.short:
        count = np.bincount(source.labels, minlength=len(class_names))
        few = ", ".join(
            f"{class_names[index]} ({count[index]} images, smallest possible alpha {smallest_alpha(count[index]):.4g})"
            for index in fit.short
        )
        notes.append(f"Too few calibration images for alpha={alpha:g}, so in every set: {few}.")
    return fit


def _thresholds(fit: ConformalFit, class_names: Sequence[str]) -> dict[str, float | None]:
    values = zip(class_names, fit.thresholds, strict=True)
    return {str(name): float(value) if np.isfinite(value) else None for name, value in values}


def _sections(
    fit: ConformalFit, known: Mapping[str, Predictions], class_names: Sequence[str], level: float, seed: int
) -> dict[str, SetFigures]:
    # u of calibration and test must be independent, hence a different seed
    sets = {name: fit.sets(part.logits, seed=seed + 1 + number) for number, (name, part) in enumerate(known.items())}
    return {
        name: set_figures(part.labels, sets[name], class_names=class_names, level=level)
        for name, part in known.items()
        if len(part)
    }


def _notes(source: Predictions, calibrated_on: str, single_image: bool) -> list[str]:
    notes = [
        "The coverage is promised for images exchangeable with those calibrated on, so for no other site or device."
    ]
    if calibrated_on == "val":
        notes.append("val selected the checkpoint, so its images fit better than new ones: sets may be too small.")
    patients = [patient for patient in source.patients if patient is not None]
    if not patients:
        notes.append("Patients are not known; several images of one patient would make the promise a rough one.")
    elif len(set(patients)) < len(patients):
        notes.append(
            "One image of each patient was drawn to calibrate on."
            if single_image
            else "Several images come from one patient and are not exchangeable one by one with those of new patients: "
            "the promise is a rough one. Calibrating on one image per patient restores it."
        )
        notes.append(
            "The intervals of the coverage take images as independent; with several per patient they are too narrow."
        )
    return notes
