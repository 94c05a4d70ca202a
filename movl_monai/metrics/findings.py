"""Several findings per image: each is a classification with the logits (0, z), and their figures together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from movl_monai.metrics.classification_metrics import UndefinedMetricError, check_finite
from movl_monai.metrics.entries import FindingThreshold, Place
from movl_monai.metrics.operating_points import choose_balanced_threshold
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.metrics.weighted import Ranking, RankingSums

__all__ = [
    "FINDING_METRICS",
    "FindingFigures",
    "FindingMetric",
    "called",
    "cooccurrence",
    "finding_labels",
    "finding_sections",
    "finding_thresholds",
    "of_finding",
    "threshold_logit",
]

FindingMetric = Literal[
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "micro_auroc",
    "micro_average_precision",
    "micro_sensitivity",
    "micro_specificity",
    "micro_f1",
    "exact_match",
    "cross_entropy",
]
FINDING_METRICS: tuple[FindingMetric, ...] = get_args(FindingMetric)
_PER_FINDING = ("auroc", "average_precision", "sensitivity", "specificity")


def finding_labels(images: Predictions) -> np.ndarray:
    """Return the labels of findings, float64 (N, K) of 1, 0 and NaN; all NaN if no image has any."""
    if images.labels.ndim == 2:
        return images.labels
    return np.full(images.logits.shape, np.nan)


def of_finding(images: Predictions, index: int, *, threshold: float = 0.5) -> Predictions:
    """Return the images with a known label of one finding, as a classification with the logits (0, z).

    Args:
        images: logits (N, K), labels (N, K).
        index: number of the finding.
        threshold: probability from which the finding is called positive; the logit is shifted by it, so that the larger
            of both logits is the call. 0.5 leaves the logits as they are.
    """
    rows = np.flatnonzero(~np.isnan(finding_labels(images)[:, index]))
    known = images.take(rows)
    scores = known.logits[:, index] - threshold_logit(threshold)
    return Predictions(
        ids=known.ids,
        logits=np.stack([np.zeros(len(rows)), scores], axis=1),
        labels=finding_labels(known)[:, index].astype(np.int64),
        splits=known.splits,
        domains=known.domains,
        patients=known.patients,
        patient_ids=known.patient_ids,
    )


def finding_thresholds(
    images: Predictions | None, class_names: Sequence[str], *, chosen_on: str = "val"
) -> dict[str, FindingThreshold]:
    """Choose a threshold of each finding's probability: the largest sum of sensitivity and specificity.

    Args:
        images: images to choose on; None if there are none.
        class_names: the K findings.
        chosen_on: name of their split.

    Returns:
        by finding ``threshold``, None without positive or without negative images, ``chosen_on`` (``split``, ``n``) and
        ``notes`` with the reason.

    Example:
        >>> images = Predictions(ids=["0", "1"], logits=[[2.0, 0.0], [0.0, 1.0]], labels=[[1.0, 0.0], [0.0, 0.0]])
        >>> found = finding_thresholds(images, ["Effusion", "Mass"])
        >>> round(found["Effusion"]["threshold"], 3), found["Mass"]["threshold"], found["Mass"]["notes"]
        (0.69, None, ['No threshold: There are no positive images.'])
    """
    result: dict[str, FindingThreshold] = {}
    for index, name in enumerate(class_names):
        known = None if images is None else of_finding(images, index)
        place: Place = {"split": chosen_on, "n": 0 if known is None else len(known)}
        try:
            if known is None or not len(known):
                raise UndefinedMetricError(f"There are no labeled images in '{chosen_on}'.")
            value: float | None = choose_balanced_threshold(known.labels == 1, expit(known.logits[:, 1]))
            notes: list[str] = []
        except UndefinedMetricError as reason:
            value, notes = None, [f"No threshold: {reason}"]
        result[str(name)] = {"threshold": value, "chosen_on": place, "notes": notes}
    return result


def called(logits: np.ndarray, thresholds: Sequence[float | None]) -> np.ndarray:
    """Return the calls of findings, float64 (N, K): 1 from the threshold on, else 0; NaN without a threshold.

    Args:
        logits: (N, K).
        thresholds: of the probabilities, (K,).
    """
    limits = np.array([np.nan if value is None else value for value in thresholds])
    return np.where(np.isnan(limits), np.nan, expit(logits) >= limits)


class FindingFigures:
    r"""Figures of fixed labels and logits of findings as a function of the image weights.

    ``auroc``, ``average_precision``, ``sensitivity`` and ``specificity`` are means over the findings with a value
    (macro). Those with ``micro_`` count every known pair of image and finding alike. ``exact_match`` is the share of
    images with all labels known whose calls are all right, ``cross_entropy`` the mean over all known labels, in nats.
    Calls are those at the thresholds; a finding without a threshold is in no figure of calls.

    Args:
        labels: 1, 0 or NaN if unknown, (N, K).
        logits: (N, K), before the sigmoid.
        thresholds: of the probabilities, (K,), None for none; None takes 0.5 for all.
        metrics: names of :data:`FINDING_METRICS`; None takes all.

    Raises:
        ValueError: if a metric is unknown or the shapes do not match.
        NonFiniteLogitsError: if a logit is NaN or infinite.

    Example:
        >>> labels = [[1, 0], [0, np.nan], [1, 1]]
        >>> figures = FindingFigures(labels, [[2.0, -1.0], [-1.0, 9.0], [-0.5, 1.0]], metrics=["auroc", "micro_f1"])
        >>> {name: values.round(3).tolist() for name, values in figures(np.ones((3, 1))).items()}
        {'auroc': [1.0], 'micro_f1': [0.8]}
    """

    def __init__(
        self,
        labels: ArrayLike,
        logits: ArrayLike,
        *,
        thresholds: Sequence[float | None] | None = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        from scipy.sparse import csr_array

        truth, scores = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
        if truth.ndim != 2 or truth.shape != scores.shape:
            raise ValueError(f"labels and logits must both be (N, K), got {truth.shape} and {scores.shape}.")
        check_finite(scores)
        self.metrics = FINDING_METRICS if metrics is None else tuple(metrics)
        if unknown := [name for name in self.metrics if name not in FINDING_METRICS]:
            raise ValueError(f"metric must be one of {', '.join(FINDING_METRICS)}, got {unknown[0]!r}.")
        self.count, self.num_findings = truth.shape
        self.truth, self.scores, self.probabilities = truth, scores, expit(scores)
        limits = [0.5] * self.num_findings if thresholds is None else list(thresholds)
        if len(limits) != self.num_findings:
            raise ValueError(f"Expected {self.num_findings} thresholds, got {len(limits)}.")
        self.calls = called(scores, limits)
        both = ~np.isnan(truth) & ~np.isnan(self.calls)
        places, images = np.nonzero(both.T)
        cells = np.where(truth.T == 1, 0, 2)[both.T] + np.where(self.calls.T == 1, 0, 1)[both.T]
        # a 1 per known pair, in the row of its finding and cell: true positive, missed, false positive, true negative
        self._cells = csr_array(
            (np.ones(len(images)), (4 * places + cells, images)), shape=(4 * len(limits), self.count)
        )
        self._rankings: dict[int | None, Ranking] = {}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the figures for each column of ``weights`` (N, R) >= 0; (R,) each, NaN if undefined."""
        sums = _Sums(self, weights)
        return {name: sums.figure(name) for name in self.metrics}

    def per_finding(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute ``auroc``, ``average_precision``, ``sensitivity``, ``specificity`` of each finding, (K, R) each."""
        sums = _Sums(self, weights)
        return {name: sums.of_findings(name) for name in _PER_FINDING}

    def ranking(self, index: int | None) -> Ranking:
        """Return the ranking of the images by one finding, or that of all pairs of image and finding for None."""
        if index not in self._rankings:
            chosen = ~np.isnan(self.truth) if index is None else ~np.isnan(self.truth[:, [index]])
            columns = slice(None) if index is None else slice(index, index + 1)
            truth, scores = self.truth[:, columns][chosen], self.probabilities[:, columns][chosen]
            self._rankings[index] = Ranking(truth == 1, scores, rows=np.nonzero(chosen)[0], count=self.count)
        return self._rankings[index]


class _Sums:
    """Sums over one matrix of weights (N, R)."""

    def __init__(self, figures: FindingFigures, weights: np.ndarray) -> None:
        self.figures = figures
        self.weights = np.ascontiguousarray(weights, dtype=np.float64)
        self._found: dict[int | None, RankingSums] = {}

    @cached_property
    def cells(self) -> np.ndarray:
        """True positives, missed, false positives and true negatives of each finding, (4, K, R)."""
        count = self.figures.num_findings
        return (self.figures._cells @ self.weights).reshape(count, 4, -1).swapaxes(0, 1)

    def figure(self, name: str) -> np.ndarray:
        if name in _PER_FINDING:
            return _mean_known(self.of_findings(name))
        if name == "exact_match":
            known = ~np.isnan(self.figures.truth).any(axis=1) & ~np.isnan(self.figures.calls).any(axis=1)
            right = (self.figures.truth == self.figures.calls).all(axis=1)
            return _ratio((right & known) @ self.weights, known @ self.weights)
        if name == "cross_entropy":
            known = ~np.isnan(self.figures.truth)
            losses = np.logaddexp(0, self.figures.scores) - np.nan_to_num(self.figures.truth) * self.figures.scores
            return _ratio(np.where(known, losses, 0).sum(axis=1) @ self.weights, known.sum(axis=1) @ self.weights)
        found, missed, false, rejected = self.cells.sum(axis=1)
        if name == "micro_sensitivity":
            return _ratio(found, found + missed)
        if name == "micro_specificity":
            return _ratio(rejected, rejected + false)
        if name == "micro_f1":
            return _ratio(2 * found, 2 * found + missed + false)
        ranked = self.ranked(None)
        return ranked.auroc() if name == "micro_auroc" else ranked.average_precision()

    def of_findings(self, name: str) -> np.ndarray:
        found, missed, false, rejected = self.cells
        if name == "sensitivity":
            return _ratio(found, found + missed)
        if name == "specificity":
            return _ratio(rejected, rejected + false)
        ranked = [self.ranked(index) for index in range(self.figures.num_findings)]
        return np.stack([one.auroc() if name == "auroc" else one.average_precision() for one in ranked])

    def ranked(self, index: int | None) -> RankingSums:
        if index not in self._found:
            self._found[index] = self.figures.ranking(index)(self.weights)
        return self._found[index]


def cooccurrence(marks: np.ndarray, known: np.ndarray) -> list[list[int]]:
    """Count the images with both of two findings, (K, K); the diagonal counts those with one.

    Args:
        marks: labels or calls, (N, K), of which 1 is positive.
        known: pairs of image and finding that count, bool (N, K).

    Example:
        >>> cooccurrence(np.array([[1, 1], [1, 0], [0, 1]]), np.full((3, 2), True))
        [[2, 1], [1, 2]]
    """
    positive = ((marks == 1) & known).astype(np.int64)
    return (positive.T @ positive).tolist()


def finding_sections(sections: Mapping[str, Any], index: int, *, threshold: float = 0.5) -> dict[str, Predictions]:
    """Return :func:`of_finding` of every section."""
    return {name: of_finding(part.predictions, index, threshold=threshold) for name, part in sections.items()}


def threshold_logit(threshold: float) -> float:
    """Return the logit of a threshold of probabilities, finite also for 0 and 1."""
    if threshold == 0.5:
        return 0.0
    tiny = np.finfo(np.float64).tiny
    return float(logit(np.clip(threshold, tiny, 1 - np.finfo(np.float64).epsneg)))


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the findings (K, R) with a value, (R,); NaN if none has one."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
