"""Figures of one predicted mask against the truth, per class: overlap, and distances in mm.

Rules for masks without a pixel of a class, so that no case is left out silently and none gets a made-up number:

- In neither mask: Dice and IoU are 1 (nothing was to be found and nothing was found); the others are undefined.
- Only in the prediction: Dice, IoU and precision are 0; sensitivity and the distances are undefined.
- Only in the truth: Dice, IoU and sensitivity are 0; precision and the distances are undefined.

An undefined figure is NaN here. Reports leave it out of means and state the number of such cases.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

from movl_monai.metrics.declared import MASK_FIGURES

__all__ = ["FIGURES", "NO_DISTANCES", "mask_figures"]

FIGURES = tuple(MASK_FIGURES.declared)
"""Names of the figures."""

NO_DISTANCES = "not available: irregular spacing"
"""Text in place of a distance, for volumes without a regular, orthogonal voxel grid."""


def mask_figures(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    distances: bool = True,
) -> dict[str, np.ndarray]:
    """Compute all figures for each class except the background.

    Args:
        truth: classes, integers (rows, columns) or (rows, columns, slices).
        predicted: classes, of the same shape.
        num_classes: number of classes, including the background.
        spacing: distance of pixel centers along each axis in mm; None for 1, which gives distances in pixels.
        distances: False leaves ``hd95`` and ``asd`` undefined, for voxels without a regular grid.

    Returns:
        for each of :data:`FIGURES` float64 (num_classes - 1,), NaN if undefined. ``hd95`` is the larger of the two 95th
        percentiles of the distances between the surfaces, ``asd`` the mean of all distances from either surface to the
        other.

    Raises:
        ValueError: if the shapes differ.

    Reference:
        ``monai.metrics``: ``compute_dice``, ``compute_iou``, ``compute_hausdorff_distance`` (percentile=95) and
        ``compute_average_surface_distance`` (symmetric=True).

    Example:
        >>> truth = np.zeros((8, 8), dtype=int)
        >>> truth[2:6, 2:6] = 1
        >>> figures = mask_figures(truth, np.roll(truth, 1, axis=0), num_classes=2, spacing=(0.5, 0.5))
        >>> float(figures["dice"][0]), float(figures["hd95"][0])
        (0.75, 0.5)
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"Truth and prediction must have one shape, got {truth.shape} and {predicted.shape}.")
    steps = [1.0] * truth.ndim if spacing is None else [float(value) for value in spacing]
    # in a single slice, all voxels would be surface
    kept = [axis for axis, size in enumerate(truth.shape) if size > 1 or truth.ndim == 2]
    if len(kept) == 2 and truth.ndim == 3:
        truth, predicted = truth.squeeze(), predicted.squeeze()
        steps = [steps[axis] for axis in kept]
    used = steps if distances else None
    rows = [_class_figures(truth == number, predicted == number, used) for number in range(1, num_classes)]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in FIGURES}


def _class_figures(truth: np.ndarray, predicted: np.ndarray, spacing: list[float] | None) -> dict[str, float]:
    import torch
    from monai.metrics import compute_dice, compute_iou

    values = dict.fromkeys(FIGURES, float("nan"))
    if not truth.any() and not predicted.any():
        return values | {"dice": 1.0, "iou": 1.0}
    one, other = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (predicted, truth))
    # without a truth MONAI gives NaN, but the rule here gives 0
    values["dice"] = float(compute_dice(one, other, ignore_empty=False)) if truth.any() else 0.0
    values["iou"] = float(compute_iou(one, other, ignore_empty=False)) if truth.any() else 0.0
    both = int(np.count_nonzero(truth & predicted))
    if truth.any():
        values["sensitivity"] = both / int(np.count_nonzero(truth))
    if predicted.any():
        values["precision"] = both / int(np.count_nonzero(predicted))
    if spacing is not None and truth.any() and predicted.any():
        values |= _distances(one, other, spacing)
    return values


def _distances(predicted: torch.Tensor, truth: torch.Tensor, spacing: list[float]) -> dict[str, float]:
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    with warnings.catch_warnings():
        # MONAI 1.6 itself passes an argument that it has deprecated
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        hd95 = compute_hausdorff_distance(predicted, truth, percentile=95, include_background=True, spacing=spacing)
        asd = compute_average_surface_distance(
            predicted, truth, symmetric=True, include_background=True, spacing=spacing
        )
    return {"hd95": float(hd95), "asd": float(asd)}
