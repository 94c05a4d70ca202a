"""Calibration: temperature scaling, reliability bins and calibration figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import (
    UndefinedMetricError,
    brier_score,
    check_labeled,
    confidence_and_hits,
    confidence_bins,
    cross_entropy,
    expected_calibration_error,
    most_probable,
    softmax,
)
from movl_monai.metrics.declared import Decide
from movl_monai.metrics.entries import (
    Calibration,
    CalibrationChanges,
    CalibrationFigures,
    CalibrationSection,
    ReliabilityBin,
)
from movl_monai.metrics.intervals import bootstrap_means
from movl_monai.metrics.stored.predictions import Predictions

__all__ = ["TemperatureFit", "calibration_report", "fit_temperature", "reliability_bins"]

_FEW = 50  # a temperature fitted on fewer images is called rough


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    """A fitted temperature with notes for readers.

    Args:
        temperature: divisor of the logits, > 0; 1 changes nothing.
        n: number of images it was fitted on.
        notes: reasons why it is 1, at a bound, or rough.
    """

    temperature: float
    n: int
    notes: tuple[str, ...] = ()


def fit_temperature(
    labels: ArrayLike, logits: ArrayLike, *, bounds: tuple[float, float] = (0.05, 20.0)
) -> TemperatureFit:
    r"""Fit the temperature that maximises the likelihood of the labels.

    .. math:: T = \arg\min_T -\frac{1}{N} \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    The objective is convex in :math:`\beta = 1 / T`, and its derivative grows with :math:`\beta`. The root of the
    derivative is therefore the minimum, and the cross entropy of these images never rises. Three cases have no minimum
    inside the bounds:

    - Every label has the largest logit (no image is wrong). The likelihood grows as T goes to 0, so the images do not
      determine T. It stays 1: probabilities of 0 and 1 would be made up.
    - The minimum is below the lower bound: T is the lower bound.
    - The minimum is above the upper bound, or the logits are worse than equal logits (T to infinity): T is the upper
      bound.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        bounds: smallest and largest temperature; 1 must lie between them.

    Raises:
        UndefinedMetricError: if there are no images.
        ValueError: if shapes, labels or bounds are invalid.
        NonFiniteLogitsError: if a logit is NaN or infinite.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2. Deviation: they use gradient
        descent; the bracketed root (Brent) is exact and has no step size.

    Example:
        >>> fit = fit_temperature([0, 0, 0, 1], [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
        >>> round(fit.temperature, 4)  # 3 of 4 are right: 2 / T = log(3)
        1.8205
    """
    from scipy.optimize import brentq

    label, score = check_labeled(labels, logits)
    low, high = bounds
    if not 0 < low <= 1 <= high < np.inf:
        raise ValueError(f"bounds must be 0 < low <= 1 <= high, got {low} and {high}.")
    if not len(label):
        raise UndefinedMetricError("A temperature needs labeled images, got none.")
    score = score - score[np.arange(len(label)), label][:, None]  # the label's logit becomes 0, the others margins
    notes = _fit_notes(label, score.shape[1])

    def slope(beta: float) -> float:
        return float(np.mean(np.sum(softmax(beta * score) * score, axis=1)))

    if (score <= 0).all():
        reason = "All logits of an image are equal" if not score.any() else "The network is right on every image"
        reason += ", so these images do not determine a temperature; the logits are left as they are."
        return TemperatureFit(temperature=1.0, n=len(label), notes=(reason, *notes))
    if slope(1 / low) <= 0:
        beta, bound = 1 / low, f"The temperature is at its lower bound {low:g}; a smaller one would fit better."
    elif slope(1 / high) >= 0:
        bound = f"The temperature is at its upper bound {high:g}: the logits say next to nothing about these labels."
        beta = 1 / high
    else:
        beta, bound = float(brentq(slope, 1 / high, 1 / low, xtol=1e-14, rtol=1e-14)), ""
    return TemperatureFit(temperature=1 / beta, n=len(label), notes=(*([bound] if bound else []), *notes))


def reliability_bins(
    labels: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15, predicted: np.ndarray | None = None
) -> list[ReliabilityBin]:
    """Compute mean confidence and accuracy in equal-width bins of the probability of the predicted class.

    Args:
        labels: integers (N,) in [0, C).
        probabilities: (N, C).
        num_bins: number of bins (low, high] that divide (0, 1].
        predicted: predicted classes (N,); None takes the most probable ones.

    Returns:
        for each bin ``low``, ``high``, ``n``, and the means ``confidence`` and ``accuracy``, None in an empty bin. The
        mean absolute difference of both over the bins, weighted by ``n``, is the expected calibration error.

    Example:
        >>> reliability_bins([0, 1], [[0.9, 0.1], [0.8, 0.2]], num_bins=2)[1]
        {'low': 0.5, 'high': 1.0, 'n': 2, 'confidence': 0.8500000000000001, 'accuracy': 0.5}
    """
    label, probability = check_labeled(labels, probabilities)
    confidence, correct = confidence_and_hits(label, probability, predicted)
    bins = confidence_bins(confidence, num_bins)
    result: list[ReliabilityBin] = []
    for index in range(num_bins):
        inside = bins == index
        count = int(inside.sum())
        result.append(
            {
                "low": index / num_bins,
                "high": (index + 1) / num_bins,
                "n": count,
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(correct[inside].mean()) if count else None,
            }
        )
    return result


def calibration_report(
    sections: Mapping[str, Predictions],
    *,
    fitted_on: str = "val",
    num_bins: int = 15,
    decide: Decide = most_probable,
    **resampling: Any,
) -> Calibration:
    """Fit a temperature on one section, and compare the calibration of every section before and after scaling.

    Args:
        sections: images by section; images without a label are left out.
        fitted_on: section that the temperature is fitted on.
        num_bins: number of bins of reliability and expected calibration error.
        decide: predicted class of each image; the temperature does not change it.
        resampling: ``rounds``, ``level`` and ``seed`` of the intervals.

    Returns:
        ``temperature`` (None if ``fitted_on`` has no images), ``fitted_on`` (``split``, ``n``), ``sections``: for each
        ``before`` and ``after`` (``cross_entropy``, ``brier``, ``ece``), ``reliability`` (bins before and after) and
        ``change`` (after minus before of cross entropy and Brier score, with patient-clustered intervals); ``helps``:
        for each section whether its cross entropy falls; ``warning``; ``notes``.
    """
    known = {name: images.labeled() for name, images in sections.items()}
    source = known.get(fitted_on)
    fit = fit_temperature(source.labels, source.logits) if source is not None and len(source) else None
    temperature = None if fit is None else fit.temperature
    notes = list(fit.notes) if fit else [f"No temperature: there are no labeled images in '{fitted_on}'."]
    notes += [f"{name}: no labeled images." for name, images in known.items() if not len(images)]
    known = {name: images for name, images in known.items() if len(images)}
    scaled = {name: _section(images, temperature, num_bins, decide, resampling) for name, images in known.items()}
    changes = {name: change for name, entry in scaled.items() if (change := entry["change"])}
    helps = {name: change["cross_entropy"]["difference"] < 0 for name, change in changes.items()}
    if fitted_on in helps:
        notes.append(f"{fitted_on}: the temperature was fitted on these images; what they gain is not a test result.")
    return {
        "temperature": temperature,
        "fitted_on": {"split": fitted_on, "n": fit.n if fit else 0},
        "sections": scaled,
        "helps": helps,
        "warning": _warning(changes, fitted_on),
        "notes": notes,
    }


def _section(
    images: Predictions,
    temperature: float | None,
    num_bins: int,
    decide: Decide,
    resampling: Mapping[str, Any],
) -> CalibrationSection:
    predicted = decide(images.logits)
    before, bins = _figures(images.labels, images.logits, num_bins, predicted)
    if temperature is None:
        return {"before": before, "after": None, "reliability": {"before": bins, "after": None}, "change": None}
    scaled = images.logits / temperature
    after, scaled_bins = _figures(images.labels, scaled, num_bins, predicted)
    one, two = (_losses(images.labels, logits) for logits in (images.logits, scaled))
    drawn = bootstrap_means({name: two[name] - one[name] for name in one}, patients=images.patients, **resampling)
    entropy, brier = (after["cross_entropy"] - before["cross_entropy"], after["brier"] - before["brier"])
    return {
        "before": before,
        "after": after,
        "reliability": {"before": bins, "after": scaled_bins},
        "change": {
            "cross_entropy": {"difference": entropy, "interval": drawn["intervals"]["cross_entropy"]},
            "brier": {"difference": brier, "interval": drawn["intervals"]["brier"]},
        },
    }


def _figures(
    labels: np.ndarray, logits: np.ndarray, num_bins: int, predicted: np.ndarray
) -> tuple[CalibrationFigures, list[ReliabilityBin]]:
    probabilities = softmax(logits)
    figures: CalibrationFigures = {
        "cross_entropy": cross_entropy(labels, logits),
        "brier": brier_score(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities, num_bins=num_bins, predicted=predicted),
    }
    return figures, reliability_bins(labels, probabilities, num_bins=num_bins, predicted=predicted)


def _losses(labels: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Return cross entropy and Brier score of every image; their means are the figures."""
    from scipy.special import log_softmax

    truth = np.eye(logits.shape[1])[labels]
    return {
        "cross_entropy": -log_softmax(logits, axis=1)[np.arange(len(labels)), labels],
        "brier": np.sum((softmax(logits) - truth) ** 2, axis=1),
    }


def _fit_notes(label: np.ndarray, num_classes: int) -> tuple[str, ...]:
    missing = num_classes - len(np.unique(label))
    few = f"The temperature was fitted on {len(label)} images only; it is rough." if len(label) < _FEW else ""
    gap = f"{missing} of {num_classes} classes have no images among those that gave the temperature." if missing else ""
    return tuple(note for note in (few, gap) if note)


def _warning(changes: Mapping[str, CalibrationChanges], fitted_on: str) -> str:
    text = f"A temperature fitted on '{fitted_on}' may make probabilities worse where the data differ from it."
    hurt = [name for name, change in changes.items() if change["cross_entropy"]["difference"] > 0]
    sure = [name for name in hurt if (interval := changes[name]["cross_entropy"]["interval"]) and interval[0] > 0]
    if not changes:
        return text
    if not hurt:
        return f"{text} It does so in none of the sections here."
    return f"{text} Here it does in: {', '.join(hurt)}" + (f" (beyond chance in: {', '.join(sure)})." if sure else ".")
