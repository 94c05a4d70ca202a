"""Smaller field of view, as from a collimator that is set too tight."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["CollimateFieldOfView", "CollimateFieldOfViewd"]


class CollimateFieldOfView(Corruption):
    """Blacken the borders: 6 to 38 % of the rows, and the same share of the columns.

    The shares of top and bottom, and of left and right, are drawn for each image. The content of the field does not
    move.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the position of the field.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        DICOM PS3.3, C.8.7.3 (X-Ray Collimator), for the shutters of a radiograph.

    Example:
        >>> field = CollimateFieldOfView(severity=3)(torch.ones(3, 100, 100), "an id")[0]
        >>> int(field.any(dim=1).sum()), int(field.any(dim=0).sum())
        (80, 80)
    """

    name = "field_of_view"
    parameters = (0.06, 0.12, 0.2, 0.28, 0.38)
    meaning = "rows and columns that are black"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        place = generator.uniform(size=2)
        result = torch.zeros_like(pixels)
        field = tuple(_inside(size, parameter, share) for size, share in zip(pixels.shape[1:], place, strict=True))
        result[(slice(None), *field)] = pixels[(slice(None), *field)]
        return result


def _inside(size: int, dark: float, share: float) -> slice:
    """Return the visible rows or columns, with ``share`` of the dark ones before them."""
    gone = min(round(size * dark), size - 1)
    before = round(gone * share)
    return slice(before, size - (gone - before))


class CollimateFieldOfViewd(Corruptiond):
    """Dictionary twin of :class:`CollimateFieldOfView`."""

    corruption = CollimateFieldOfView
