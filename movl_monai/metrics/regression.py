"""Figures of predicted numbers, and split-conformal intervals around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import UndefinedMetricError
from movl_monai.metrics.conformal import binomial_interval, conformal_threshold, smallest_alpha
from movl_monai.metrics.entries import NumberIntervals, NumberIntervalSection
from movl_monai.metrics.stored.predictions import Predictions

__all__ = ["NUMBER_METRICS", "NumberFigures", "NumberMetric", "number_intervals", "number_labels"]

NumberMetric = Literal["mae", "rmse", "r2", "pearson", "bias", "agreement_low", "agreement_high"]
NUMBER_METRICS: tuple[NumberMetric, ...] = get_args(NumberMetric)
_NORMAL = 1.96  # standard deviations on either side that hold 95 % of a normal distribution


def number_labels(images: Predictions) -> np.ndarray:
    """Return the labels of a regression, float64 (N,); all NaN if no image has one."""
    return images.labels if images.labels.dtype.kind == "f" else np.full(len(images), np.nan)


class NumberFigures:
    r"""Figures of fixed numbers and predictions as a function of the image weights.

    With the errors :math:`e_i = \hat y_i - y_i`: ``mae`` is :math:`\overline{|e|}`, ``rmse``
    :math:`\sqrt{\overline{e^2}}`, ``r2`` :math:`1 - \sum e^2 / \sum (y - \bar y)^2`, ``pearson`` the correlation of
    :math:`\hat y` and y, ``bias`` :math:`\bar e`, and the limits of agreement are :math:`\bar e \pm 1.96 s_e` with the
    standard deviation :math:`s_e` of the errors.

    Args:
        labels: the numbers, (N,), NaN if unknown.
        predictions: (N,) or (N, 1), in the same unit.
        metrics: names of :data:`NUMBER_METRICS`; None takes all.

    Raises:
        ValueError: if a metric is unknown or the shapes do not match.

    Reference:
        Bland, Altman: Statistical methods for assessing agreement between two methods of clinical measurement, Lancet
        327, 1986.

    Example:
        >>> figures = NumberFigures([1.0, 2.0, np.nan], [1.0, 4.0, 0.0], metrics=["mae", "bias", "r2"])
        >>> {name: value.tolist() for name, value in figures(np.ones((3, 1))).items()}
        {'mae': [1.0], 'bias': [1.0], 'r2': [-7.0]}
    """

    def __init__(self, labels: ArrayLike, predictions: ArrayLike, *, metrics: Sequence[str] | None = None) -> None:
        truth, given = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
        if truth.ndim != 1 or given.size != truth.size or given.ndim not in (1, 2):
            raise ValueError(
                f"labels must be (N,) and predictions (N,) or (N, 1), got {truth.shape} and {given.shape}."
            )
        self.metrics = NUMBER_METRICS if metrics is None else tuple(metrics)
        if unknown := [name for name in self.metrics if name not in NUMBER_METRICS]:
            raise ValueError(f"metric must be one of {', '.join(NUMBER_METRICS)}, got {unknown[0]!r}.")
        self.known = ~np.isnan(truth)
        # distances from the mean keep the sums of squares exact
        self._origin = float(truth[self.known].mean()) if self.known.any() else 0.0
        self.truth, self.given = truth[self.known] - self._origin, given.reshape(-1)[self.known] - self._origin
        self.errors = self.given - self.truth

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the figures for each column of ``weights`` (N, R) >= 0; (R,) each, NaN if undefined."""
        weight = np.asarray(weights, dtype=np.float64)[self.known]
        total = weight.sum(axis=0)

        def mean(values: np.ndarray) -> np.ndarray:
            return _ratio(values @ weight, total)

        bias, truth, given = mean(self.errors), mean(self.truth), mean(self.given)
        squares = mean(self.errors**2)
        of_truth, of_given = mean(self.truth**2) - truth**2, mean(self.given**2) - given**2
        tiny = 1e-12 * max(float((self.truth**2).max(initial=0)), float((self.given**2).max(initial=0)))
        spread = _NORMAL * np.sqrt(np.maximum(squares - bias**2, 0) * _ratio(total, total - 1))
        found = {
            "mae": lambda: mean(np.abs(self.errors)),
            "rmse": lambda: np.sqrt(squares),
            "r2": lambda: 1 - _ratio(squares, np.where(of_truth > tiny, of_truth, 0)),
            "pearson": lambda: _ratio(
                mean(self.truth * self.given) - truth * given,
                np.sqrt(np.where((of_truth > tiny) & (of_given > tiny), of_truth * of_given, 0)),
            ),
            "bias": lambda: bias,
            "agreement_low": lambda: bias - spread,
            "agreement_high": lambda: bias + spread,
        }
        return {name: found[name]() for name in self.metrics}


def number_intervals(
    sections: Mapping[str, Predictions],
    *,
    calibrated_on: str = "calibration",
    alpha: float = 0.1,
    level: float = 0.95,
) -> NumberIntervals:
    r"""Fit the half width of intervals around predictions on one section, and measure their coverage on all others.

    The half width is the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest absolute error of n images, so that the
    interval of a new exchangeable image holds its number with a probability of at least :math:`1 - \alpha`.

    Args:
        sections: images by section; images without a label are left out.
        calibrated_on: section that the width is fitted on.
        alpha: allowed rate of missing the number, in (0, 1).
        level: confidence level of the exact binomial intervals of the coverage.

    Returns:
        ``alpha``, ``smallest_alpha``, ``half_width`` (None if it could not be fitted), ``calibrated_on`` (``split``,
        ``n``), ``sections``: ``n``, ``coverage``, ``coverage_interval``, ``width``; ``notes``.

    Reference:
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-Free Predictive Inference for Regression, JASA 2018,
        algorithm 2 (split conformal).
    """
    known = {name: images.labeled() for name, images in sections.items()}
    source = known.pop(calibrated_on, None)
    count = 0 if source is None else len(source)
    notes = []
    half: float | None = None
    try:
        if source is None or not count:
            raise UndefinedMetricError(f"there are no labeled images in '{calibrated_on}'.")
        half = conformal_threshold(_errors(source), alpha=alpha)
        notes.append("The coverage is promised for images exchangeable with those calibrated on: for no other site.")
        if calibrated_on == "val":
            notes.append(
                "val selected the checkpoint, so its errors are smaller than new ones: intervals may be short."
            )
        patients = [patient for patient in source.patients if patient is not None]
        if len(set(patients)) < len(patients):
            notes.append("Several images come from one patient, so the promise and its intervals are rough.")
    except UndefinedMetricError as reason:
        notes.append(f"No intervals: {reason}")
    found: dict[str, NumberIntervalSection] = {}
    for name, images in known.items():
        if half is not None and len(images):
            held = int((_errors(images) <= half).sum())
            found[name] = {
                "n": len(images),
                "coverage": held / len(images),
                "coverage_interval": binomial_interval(held, len(images), level=level),
                "width": 2 * half,
            }
    return {
        "alpha": alpha,
        "smallest_alpha": smallest_alpha(count) if count else None,
        "half_width": half,
        "calibrated_on": {"split": calibrated_on, "n": count},
        "sections": found,
        "notes": notes,
    }


def _errors(images: Predictions) -> np.ndarray:
    return np.abs(images.logits[:, 0] - images.labels)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
