"""Figures of ordered classes (grades) as pure functions: the predicted grade, distances, and "grade >= k"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.entries import GradeFigures, ThresholdFigures
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.operating_points import operating_figures
from movl_monai.metrics.weighted import Ranking

_FIGURES = ("sensitivity", "specificity", "auroc")

__all__ = ["grade_figures", "grade_numbers", "signed_distances"]


def grade_numbers(class_names: Sequence[str]) -> np.ndarray:
    """Return the names as numbers, float64 (C,); if one is no integer, the numbers from 0.

    Example:
        >>> grade_numbers(["1", "2", "3"]), grade_numbers(["none", "mild"])
        (array([1., 2., 3.]), array([0., 1.]))
    """
    try:
        return np.array([int(name) for name in class_names], dtype=np.float64)
    except ValueError:
        return np.arange(len(class_names), dtype=np.float64)


def signed_distances(labels: ArrayLike, predicted: ArrayLike, *, num_grades: int) -> dict[str, int]:
    """Count images by predicted grade minus label, from -(C - 1) to C - 1.

    Example:
        >>> signed_distances([0, 1, 2], [0, 2, 0], num_grades=3)
        {'-2': 1, '-1': 0, '0': 1, '+1': 1, '+2': 0}
    """
    counts = np.bincount(
        np.asarray(predicted) - np.asarray(labels) + num_grades - 1, minlength=2 * num_grades - 1
    ).tolist()
    return {
        f"{distance:+d}" if distance else "0": counts[distance + num_grades - 1]
        for distance in range(1 - num_grades, num_grades)
    }


def grade_figures(
    labels: ArrayLike,
    logits: ArrayLike,
    predicted: ArrayLike,
    *,
    class_names: Sequence[str],
    patients: Sequence[str | None] | None = None,
    **resampling: Any,
) -> GradeFigures:
    r"""Compute the figures of every question "is the grade at least k?", and the signed distances.

    An image is called at least k if its predicted grade is; with the median of the distribution this is
    :math:`P(\text{grade} \ge k) > 0.5`. The ranking (AUROC) is by that probability.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        predicted: predicted grades, integers (N,).
        class_names: the C names.
        patients: patient of each image; see :class:`~movl_monai.evaluation.PatientBootstrap`.
        resampling: ``rounds``, ``level``, ``seed``.

    Returns:
        ``distances`` of :func:`signed_distances`; ``at_least``: for each name but the first ``n`` (images of at least
        that grade), ``sensitivity``, ``specificity``, ``auroc`` (None if undefined) and ``intervals``;
        ``notes``, with the reasons of missing intervals.
    """
    truth, called = np.asarray(labels), np.asarray(predicted)
    probabilities = softmax(logits)
    bootstrap = PatientBootstrap(len(truth), patients, **resampling)
    questions = {
        str(name): (truth >= grade, called >= grade, Ranking(truth >= grade, probabilities[:, grade:].sum(axis=1)))
        for grade, name in enumerate(class_names)
        if grade
    }

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, (positive, said, ranking) in questions.items():
            rates = operating_figures(positive, said, weights)
            rates["auroc"] = ranking(weights).auroc()
            found |= {f"{figure} of {name} or more": rates[figure] for figure in _FIGURES}
        return found

    intervals = bootstrap.intervals(figures, why="one side had no images")
    whole = figures(np.ones((len(truth), 1)))

    def entry(name: str) -> ThresholdFigures:
        keys = {figure: f"{figure} of {name} or more" for figure in _FIGURES}
        values = {figure: float(whole[key][0]) for figure, key in keys.items()}
        known = {figure: None if np.isnan(value) else value for figure, value in values.items()}
        return {
            "n": int(questions[name][0].sum()),
            "sensitivity": known["sensitivity"],
            "specificity": known["specificity"],
            "auroc": known["auroc"],
            "intervals": {figure: intervals[key] for figure, key in keys.items()},
        }

    return {
        "distances": signed_distances(truth, called, num_grades=len(class_names)),
        "at_least": {name: entry(name) for name in questions},
        "notes": [note for note in bootstrap.notes if " or more" in note],
    }
