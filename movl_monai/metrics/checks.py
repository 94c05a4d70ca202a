"""Checks of labels and logits before figures are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.errors import MovlError

__all__ = ["NonFiniteLogitsError", "UndefinedMetricError", "check_finite", "check_labeled", "refuse_probabilities"]


class NonFiniteLogitsError(MovlError):
    """A network gave NaN or infinite logits; no figure is computed from them."""


class UndefinedMetricError(MovlError):
    """A figure is undefined on these images, such as the AUROC of a single class; the message gives the reason."""


def check_finite(logits: np.ndarray) -> None:
    """Refuse logits with NaN or infinite values.

    Raises:
        NonFiniteLogitsError: with the number of affected rows.
    """
    bad = int((~np.isfinite(logits)).any(axis=tuple(range(1, logits.ndim))).sum())
    if bad:
        raise NonFiniteLogitsError(
            f"The logits of {bad} of {len(logits)} images are NaN or infinite; expected finite numbers. "
            "Train with lower learning rates or without AMP, or check the checkpoint and those images."
        )


def check_labeled(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Convert labels and scores to arrays and check them.

    Args:
        labels: integers (N,) in [0, C).
        scores: logits or probabilities (N, C), C >= 2.

    Returns:
        int64 (N,) and float64 (N, C).

    Raises:
        ValueError: if shapes or the range of the labels are invalid.
        NonFiniteLogitsError: if a score is NaN or infinite.
    """
    label, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if score.ndim != 2 or score.shape[1] < 2 or label.shape != score.shape[:1]:
        raise ValueError(f"Expected labels (N,) and scores (N, C) with C >= 2, got {label.shape} and {score.shape}.")
    if label.size and not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {label.dtype}.")
    if label.size and (label.min() < 0 or label.max() >= score.shape[1]):
        raise ValueError(
            f"labels must be in [0, {score.shape[1]}), the number of classes, got {label.min()} to {label.max()}; "
            "leave images without a label out."
        )
    check_finite(score)
    return label.astype(np.int64), score


def refuse_probabilities(logits: np.ndarray) -> None:
    """Refuse probabilities in place of logits: a second softmax would flatten them unnoticed.

    Raises:
        MovlError: if every row is in [0, 1] and sums to 1.
    """
    if len(logits) and ((logits >= 0) & (logits <= 1)).all() and np.allclose(logits.sum(axis=1), 1, rtol=0, atol=1e-5):
        raise MovlError(
            "`pred` must be logits, got probabilities (every row is in [0, 1] and sums to 1). "
            "Remove the softmax from the postprocessing of this evaluator."
        )
