"""Figures of out-of-distribution detection: AUROC, AUPR and FPR95."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.metrics.classification_metrics import UndefinedMetricError
from movl_monai.metrics.entries import OODScoreFigures, ResamplingFacts
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.weighted import Ranking

__all__ = ["DEFINITIONS", "OODFigures", "ood_figures"]

DEFINITIONS = {
    "auroc": "Probability that an image outside scores higher than an in-distribution one; ties count half.",
    "aupr": "Average precision with the images outside as positives; a guess gets their share, share_outside.",
    "fpr95": "Share of the images outside that pass at the smallest threshold that 95 % of the in-distribution images "
    "pass.",
}

_KEPT = 0.95


class OODFigures:
    """AUROC, AUPR and FPR95 of one score as a function of the image weights.

    Out-of-distribution images are the positives of AUROC and AUPR. FPR95 follows the definition of most papers, in
    which in-distribution images are the positives (Liang et al., Enhancing the Reliability of Out-of-distribution Image
    Detection in Neural Networks, ICLR 2018): the share of OOD images missed by a threshold that keeps 95 % of the
    in-distribution images. Thresholds are set in the same way here. pytorch-ood computes the opposite: the share of
    in-distribution images flagged when 95 % of the OOD images are flagged.

    Args:
        inside: scores of in-distribution images, (N,); larger means more out-of-distribution.
        outside: scores of out-of-distribution images, (M,).

    Raises:
        UndefinedMetricError: if there are no images on one side.
        ValueError: if a score is not finite.

    Example:
        >>> figures = OODFigures(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        >>> {name: float(value[0].round(4)) for name, value in figures(np.ones((4, 1))).items()}
        {'auroc': 0.875, 'aupr': 0.8333, 'fpr95': 0.5}
    """

    def __init__(self, inside: np.ndarray, outside: np.ndarray) -> None:
        inside, outside = (np.asarray(part, dtype=np.float64) for part in (inside, outside))
        if not len(inside) or not len(outside):
            raise UndefinedMetricError(
                f"Detection needs images on both sides, got {len(inside)} in-distribution and {len(outside)} outside."
            )
        if not (np.isfinite(inside).all() and np.isfinite(outside).all()):
            raise ValueError("Scores must be finite; check the features they were computed from.")
        self.count = len(inside)
        positive = np.arange(len(inside) + len(outside)) >= len(inside)
        self.ranking = Ranking(positive, np.concatenate([inside, outside]))
        self._order, self._outside_order = np.argsort(inside, kind="stable"), np.argsort(outside, kind="stable")
        self._thresholds, first = np.unique(inside[self._order], return_index=True)
        self._last = np.append(first[1:], len(inside)) - 1  # last image with each threshold as its score
        self._passing = np.searchsorted(outside[self._outside_order], self._thresholds, side="right")

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the figures for each column of ``weights`` (N + M, R) >= 0; (R,) each, NaN if undefined."""
        sums = self.ranking(weights)
        figures = {"auroc": sums.auroc(), "aupr": sums.average_precision()}
        return {**figures, "fpr95": self._missed(weights[: self.count], weights[self.count :])}

    def _missed(self, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        kept = np.cumsum(inside[self._order], axis=0)[self._last]
        passed = np.zeros((len(outside) + 1, outside.shape[1]))
        np.cumsum(outside[self._outside_order], axis=0, out=passed[1:])
        defined = (kept[-1] > 0) & (passed[-1] > 0)
        # compare the quotient, as scikit-learn does: 19 / 20 equals 0.95 exactly, and a product may be rounded
        enough = np.divide(kept, kept[-1], out=np.zeros_like(kept), where=kept[-1] > 0) >= _KEPT
        chosen = passed[self._passing[enough.argmax(axis=0)], np.arange(passed.shape[1])]
        return np.divide(chosen, passed[-1], out=np.full(len(chosen), np.nan), where=defined)


def ood_figures(
    inside: Mapping[str, np.ndarray],
    outside: Mapping[str, np.ndarray],
    *,
    patients: Sequence[str | None] | None = None,
    **resampling: Any,
) -> tuple[dict[str, OODScoreFigures], ResamplingFacts]:
    """Compute the figures of several scores on the same images, with patient-clustered bootstrap intervals.

    In-distribution and out-of-distribution images are resampled together, so that a patient with both counts once.

    Args:
        inside: for each score its values for N in-distribution images.
        outside: for each score its values for M out-of-distribution images.
        patients: patient of each of the N + M images, in-distribution first; None if unknown.
        resampling: ``rounds``, ``level`` and ``seed`` of the intervals.

    Returns:
        for each score ``auroc``, ``aupr``, ``fpr95`` and their intervals ``auroc_interval``, ``aupr_interval``,
        ``fpr95_interval`` ([low, high] or None); and the facts and ``notes`` of the resampling.
    """
    figures = {name: OODFigures(inside[name], outside[name]) for name in inside}
    count = len(next(iter(inside.values()))) + len(next(iter(outside.values())))
    bootstrap = PatientBootstrap(count, patients, **resampling)

    def values(weights: np.ndarray) -> dict[str, np.ndarray]:
        every = {name: figure(weights) for name, figure in figures.items()}
        return {f"{key} of {name}": row for name, found in every.items() for key, row in found.items()}

    whole = values(np.ones((count, 1)))
    drawn = bootstrap.intervals(values, why="one side had no images")
    result: dict[str, OODScoreFigures] = {
        name: {
            "auroc": float(whole[f"auroc of {name}"][0]),
            "aupr": float(whole[f"aupr of {name}"][0]),
            "fpr95": float(whole[f"fpr95 of {name}"][0]),
            "auroc_interval": drawn[f"auroc of {name}"],
            "aupr_interval": drawn[f"aupr of {name}"],
            "fpr95_interval": drawn[f"fpr95 of {name}"],
        }
        for name in figures
    }
    return result, bootstrap.facts
