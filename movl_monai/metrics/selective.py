"""Selective classification: risk-coverage curves, and the confidence threshold for abstention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import (
    UndefinedMetricError,
    check_labeled,
    confidence_and_hits,
    most_probable,
    softmax,
)
from movl_monai.metrics.declared import Decide
from movl_monai.metrics.entries import Abstention, AbstentionSection, AnsweredFigures, Place
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.stored.predictions import Predictions

__all__ = ["RiskCoverage", "abstention_report", "abstention_threshold"]

_POINTS = 200  # largest number of points of a curve in a report


class RiskCoverage:
    r"""Error rate among the most confident images as a function of their share.

    The confidence of an image is the probability of its predicted class, :math:`c_i`. Each confidence is a threshold:

    .. math:: \mathrm{coverage}_i = \frac{|A_i|}{N}, \quad \mathrm{risk}_i = \frac{1}{|A_i|} \sum_{j \in A_i} e_j,
              \quad A_i = \{ j : c_j \ge c_i \}, \quad \mathrm{AURC} = \frac{1}{N} \sum_i \mathrm{risk}_i

    Images of equal confidence are answered together, so that the order of the images does not matter.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        decide: predicted class of each image.

    Raises:
        UndefinedMetricError: if there are no images.
        ValueError: if shapes or labels are invalid.
        NonFiniteLogitsError: if a logit is NaN or infinite.

    Reference:
        Geifman, El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017; Geifman, Uziel, El-Yaniv:
        Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019 (AURC). Deviation: they break ties by
        order.

    Example:
        >>> curve = RiskCoverage([0, 1, 1], [[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
        >>> curve.coverage.round(2).tolist(), curve.risk.round(2).tolist(), round(curve.aurc, 3)
        ([0.33, 0.67, 1.0], [0.0, 0.0, 0.33], 0.111)
    """

    def __init__(self, labels: ArrayLike, logits: ArrayLike, *, decide: Decide = most_probable) -> None:
        label, score = check_labeled(labels, logits)
        if not len(label):
            raise UndefinedMetricError("There are no labeled images.")
        self.confidence, right = confidence_and_hits(label, softmax(score), decide(score))
        self.wrong = (~right).astype(np.float64)
        self._order = np.argsort(-self.confidence, kind="stable")
        falling = self.confidence[self._order]
        # the last image of each confidence, in descending order
        self._last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        self.thresholds = falling[self._last]
        self._block = np.searchsorted(-self.thresholds, -falling)
        coverage, risk = self._curve(np.ones((len(label), 1)))
        self.coverage, self.risk = coverage[:, 0], risk[:, 0]

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve: the mean risk over the confidences of all images."""
        return float(self.weighted_aurc(np.ones((len(self.wrong), 1)))[0])

    @property
    def excess_aurc(self) -> float:
        """Excess over the area of the ideal ranking of the same errors, with all wrong images last; 0 is perfect."""
        sorted_errors = np.sort(self.wrong)
        return self.aurc - float(np.mean(np.cumsum(sorted_errors) / np.arange(1, len(sorted_errors) + 1)))

    def weighted_aurc(self, weights: np.ndarray) -> np.ndarray:
        """Compute the area for each column of ``weights`` (N, R) >= 0; (R,)."""
        _, risk = self._curve(weights)
        ordered = weights[self._order]
        return np.einsum("ir,ir->r", ordered, np.nan_to_num(risk)[self._block]) / ordered.sum(axis=0)

    def at(self, threshold: float, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute ``coverage`` and ``risk`` (NaN if nothing is answered) at a threshold, for each column of weights."""
        answered = weights[self.confidence >= threshold]
        total = answered.sum(axis=0)
        wrong = self.wrong[self.confidence >= threshold] @ answered
        risk = np.divide(wrong, total, out=np.full(len(total), np.nan), where=total > 0)
        return {"coverage": total / weights.sum(axis=0), "risk": risk}

    def _curve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = weights[self._order]
        answered = np.cumsum(ordered, axis=0)[self._last]
        wrong = np.cumsum(ordered * self.wrong[self._order][:, None], axis=0)[self._last]
        risk = np.divide(wrong, answered, out=np.full(answered.shape, np.nan), where=answered > 0)
        return answered / ordered.sum(axis=0), risk


def abstention_threshold(
    labels: ArrayLike, logits: ArrayLike, *, target_risk: float, decide: Decide = most_probable
) -> float:
    """Return the confidence threshold with the largest coverage at a risk of at most the target.

    The risk holds on these images; no bound is claimed for others.

    Args:
        labels: integers (N,) in [0, C), of images that are not reported on.
        logits: (N, C), before softmax.
        target_risk: highest error rate among answered images, in [0, 1).
        decide: predicted class of each image.

    Raises:
        ValueError: if the target is not in [0, 1).
        UndefinedMetricError: if no threshold reaches it; the message gives the lowest risk.

    Example:
        >>> labels, logits = [0, 1, 1], [[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]]
        >>> round(abstention_threshold(labels, logits, target_risk=0.1), 3)  # the confidence of the second image
        0.881
    """
    if not 0 <= target_risk < 1:
        raise ValueError(f"target_risk must be in [0, 1), got {target_risk}.")
    curve = RiskCoverage(labels, logits, decide=decide)
    reached = np.flatnonzero(curve.risk <= target_risk + 1e-12)
    if not len(reached):
        raise UndefinedMetricError(
            f"No confidence gives a risk of {target_risk:g} or less: the lowest is {curve.risk.min():.4g}, at a "
            f"coverage of {curve.coverage[curve.risk.argmin()]:.4g}. Ask for that, or train a better network."
        )
    return float(curve.thresholds[reached[-1]])


def abstention_report(
    sections: Mapping[str, Predictions],
    *,
    chosen_on: str = "val",
    target_risk: float = 0.05,
    decide: Decide = most_probable,
    **resampling: Any,
) -> Abstention:
    """Compute risk-coverage curves of every section, and their figures at a threshold chosen on one section.

    Args:
        sections: images by section; images without a label are left out.
        chosen_on: section that the threshold is chosen on.
        target_risk: highest error rate among answered images of that section, in [0, 1).
        decide: predicted class of each image.
        resampling: ``rounds``, ``level`` and ``seed`` of the patient-clustered intervals.

    Returns:
        ``target_risk``; ``threshold``: smallest confidence (probability of the predicted class, raw logits) that is
        answered, None if no threshold reaches the target; ``chosen_on``: ``split``, ``n``; ``sections``: for each
        ``n``, ``coverage`` and ``risk`` (at most 200 points, coverage growing), ``aurc``, ``aurc_interval``,
        ``excess_aurc``, and ``at_threshold``: ``coverage``, ``risk``, ``intervals``; ``notes``.

    Raises:
        ValueError: if the target is not in [0, 1).
    """
    known = {name: images.labeled() for name, images in sections.items()}
    notes = [f"{name}: no labeled images." for name, images in known.items() if not len(images)]
    source, threshold = known.get(chosen_on), None
    try:
        given = source if source is not None else Predictions(ids=[], logits=np.empty((0, 2)))
        threshold = abstention_threshold(given.labels, given.logits, target_risk=target_risk, decide=decide)
        notes.append(f"{chosen_on}: the threshold was chosen on these images; their risk at it is not a test result.")
    except UndefinedMetricError as reason:
        notes.append(f"No threshold from '{chosen_on}': {reason}")
    result = {name: _section(part, threshold, decide, resampling) for name, part in known.items() if len(part)}
    place: Place = {"split": chosen_on, "n": 0 if source is None else len(source)}
    return {"target_risk": target_risk, "threshold": threshold, "chosen_on": place, "sections": result, "notes": notes}


def _section(
    images: Predictions, threshold: float | None, decide: Decide, resampling: Mapping[str, Any]
) -> AbstentionSection:
    curve = RiskCoverage(images.labels, images.logits, decide=decide)
    bootstrap = PatientBootstrap(len(images), images.patients, **resampling)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        at = {} if threshold is None else curve.at(threshold, weights)
        return {"aurc": curve.weighted_aurc(weights), **at}

    whole = {name: float(value[0]) for name, value in figures(np.ones((len(images), 1))).items()}
    intervals = bootstrap.intervals(figures, why="no image was answered")
    shown = np.unique(np.linspace(0, len(curve.risk) - 1, _POINTS).round().astype(np.int64))
    answered: AnsweredFigures | None = None
    if threshold is not None:
        risk = None if np.isnan(whole["risk"]) else whole["risk"]
        parts = {name: intervals[name] for name in ("coverage", "risk")}
        answered = {"coverage": whole["coverage"], "risk": risk, "intervals": parts}
    return {
        "n": len(images),
        "coverage": curve.coverage[shown].tolist(),
        "risk": curve.risk[shown].tolist(),
        "aurc": whole["aurc"],
        "aurc_interval": intervals["aurc"],
        "excess_aurc": curve.excess_aurc,
        "at_threshold": answered,
    }
