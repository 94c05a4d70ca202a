"""Thresholds moved by ``val``: one offset per class, added to the logits before the argmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["moved_offsets"]

_SWEEPS = 20


def moved_offsets(labels: ArrayLike, logits: ArrayLike) -> np.ndarray:
    r"""Find the offsets that maximise balanced accuracy on the validation images.

    The predicted class is :math:`\arg\max_c z_c + b_c`. With two classes :math:`b_0 = 0` and :math:`-b_1` is a
    threshold on :math:`z_1 - z_0`; every threshold is tried. With more classes the offsets are moved in turn, each to
    its best value given the others, until no move gains. An offset moves only if balanced accuracy rises, to the
    nearest of equally good values, so that the trained threshold stays if none is better.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.

    Returns:
        Offsets (C,), all 0 if none is better. Classes without an image keep 0.

    Example:
        >>> moved_offsets([0, 0, 1, 1], [[0, -3], [0, -2], [0, -1.5], [0, 1]])
        array([0.  , 1.75])
    """
    truth, scores = np.asarray(labels), np.asarray(logits, dtype=np.float64)
    count = scores.shape[1]
    images = np.bincount(truth, minlength=count)
    weights = 1 / images[truth]
    offsets = np.zeros(count)
    movable = [index for index in range(1 if count == 2 else 0, count) if images[index]]
    for _ in range(_SWEEPS):
        moved = False
        for index in movable:
            best = _best_offset(truth, scores + offsets * (np.arange(count) != index), index, offsets[index], weights)
            moved |= best != offsets[index]
            offsets[index] = best
        if not moved or count == 2:
            break
    return offsets


def _best_offset(truth: np.ndarray, scores: np.ndarray, index: int, current: float, weights: np.ndarray) -> float:
    """Return the best offset of one class; the scores contain the offsets of the others."""
    others = np.where(np.arange(scores.shape[1]) == index, -np.inf, scores)
    # an image gets this class if the offset is above its margin
    margins = others.max(axis=1) - scores[:, index]
    order = np.argsort(margins, kind="stable")
    margins = margins[order]
    gained = np.concatenate([[0.0], np.cumsum((weights * (truth == index))[order])])
    lost = np.concatenate([[0.0], np.cumsum((weights * (others.argmax(axis=1) == truth))[order])])
    total = gained + lost[-1] - lost  # by the number of images below the offset
    ends = np.concatenate([[margins[0] - 1], (margins[1:] + margins[:-1]) / 2, [margins[-1] + 1]])
    cuts = np.concatenate([[True], margins[1:] > margins[:-1], [True]])
    now = total[np.searchsorted(margins, current)]
    gain = total[cuts].max() - now
    if gain < 1e-9:
        return current
    best = ends[cuts][total[cuts] > total[cuts].max() - 1e-9]
    return float(best[np.abs(best - current).argmin()])
