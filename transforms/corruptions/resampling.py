"""Loss of resolution: stored small, then shown large again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["ResampleCoarsely", "ResampleCoarselyd"]


class ResampleCoarsely(Corruption):
    """Downsample the image to 60 to 15 % of its rows and columns, antialiased, and upsample it; both bilinear.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        MedMNIST-C, 2024, and Hendrycks, Dietterich, ICLR 2019 ("pixelate": 80 to 10 %, 60 to 25 %). Deviation: shown
        smooth, as viewers do, instead of in squares.

    Example:
        >>> stripes = (torch.arange(64) % 2).float().expand(3, 64, 64)
        >>> ResampleCoarsely(severity=5)(stripes)[0, 32, 20:24].round(decimals=1)
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    name = "resampling"
    parameters = (0.6, 0.45, 0.32, 0.22, 0.15)
    meaning = "rows and columns that are left"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        rows, columns = pixels.shape[1:]
        small = max(1, round(rows * parameter)), max(1, round(columns * parameter))
        coarse = F.interpolate(pixels[None], size=small, mode="bilinear", antialias=True)
        return F.interpolate(coarse, size=(rows, columns), mode="bilinear")[0]


class ResampleCoarselyd(Corruptiond):
    """Dictionary twin of :class:`ResampleCoarsely`."""

    corruption = ResampleCoarsely
