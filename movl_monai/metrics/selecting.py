"""Figures that select a state or a method on val, with their tie-breaks, under many weightings of the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.declared import ORDINAL_FIGURES
from movl_monai.metrics.findings import FindingFigures
from movl_monai.metrics.regression import NumberFigures
from movl_monai.metrics.weighted import METRICS, WeightedFigures

__all__ = ["SELECTING", "best_value", "reported_figure", "selecting_figure"]

_FINDINGS, _NUMBER, _GRADES = "macro_auroc", "negative_mae", "median_quadratic_kappa"
SELECTING = (*METRICS, _FINDINGS, _NUMBER, _GRADES)
"""Names of figures that select: of classes, of several findings, of a number, and kappa of the median grade."""


def selecting_figure(
    figure: str, labels: ArrayLike, logits: ArrayLike
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function of image weights (N, R) >= 0, which computes the figure and its tie-break, (R,) each.

    The figure is better if higher; NaN if undefined. The tie-break is better if lower: the cross entropy, of a number
    the root mean squared error.

    Args:
        figure: a name of :data:`SELECTING`.
        labels: integers (N,) in [0, C); of several findings 1, 0 and NaN (N, C), of a number (N,).
        logits: (N, C), before softmax or sigmoid; of a number (N, 1).

    Raises:
        ValueError: for another name, or shapes that differ.

    Example:
        >>> figure = selecting_figure("negative_mae", [1.0, 2.0], [[1.5], [2.5]])
        >>> values, losses = figure(np.ones((2, 1)))
        >>> float(values[0]), float(losses[0])
        (-0.5, 0.5)
    """
    if figure not in SELECTING:
        raise ValueError(f"figure must be one of {', '.join(SELECTING)}, got {figure!r}.")
    if figure == _NUMBER:
        errors = NumberFigures(labels, logits, metrics=["mae", "rmse"])
        return lambda weights: _pair(errors(weights), "mae", "rmse", sign=-1)
    if figure == _FINDINGS:
        findings = FindingFigures(labels, logits, metrics=["auroc", "cross_entropy"])
        return lambda weights: _pair(findings(weights), "auroc", "cross_entropy")
    if figure == _GRADES:
        grades = WeightedFigures(labels, logits, metrics=["quadratic_kappa", "cross_entropy"], figures=ORDINAL_FIGURES)
        return lambda weights: _pair(grades(weights), "quadratic_kappa", "cross_entropy")
    names: Any = [figure, "cross_entropy"]
    classes = WeightedFigures(labels, logits, metrics=names)
    return lambda weights: _pair(classes(weights), figure, "cross_entropy")


def _pair(found: dict[Any, np.ndarray], name: str, loss: str, *, sign: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return sign * found[name], found[loss]


def reported_figure(figure: str) -> str:
    """Return the name of a selecting figure in a report, where higher is not always better.

    Example:
        >>> reported_figure("median_quadratic_kappa"), reported_figure("accuracy")
        ('quadratic_kappa', 'accuracy')
    """
    return {_FINDINGS: "auroc", _NUMBER: "mae", _GRADES: "quadratic_kappa"}.get(figure, figure)


def best_value(figure: str) -> float:
    """Return the highest value that a figure can have."""
    return 0.0 if figure == _NUMBER else 1.0
