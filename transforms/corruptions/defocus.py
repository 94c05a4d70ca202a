"""Defocus blur, as from a lens out of focus or a large focal spot: every point becomes a disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond
from movl_monai.transforms.corruptions.kernels import convolve, disk_kernel

__all__ = ["BlurDefocus", "BlurDefocusd"]


class BlurDefocus(Corruption):
    """Blur with a disk whose radius is from 0.8 to 4.2 % of the image's shorter side.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (3 to 10 of 224 pixels). Deviation: the disk is exact below the size of a
        pixel instead of smoothed.

    Example:
        >>> image = torch.zeros(3, 100, 100)
        >>> image[:, 50, 50] = 1
        >>> blurred = BlurDefocus(severity=5)(image)[0]
        >>> round((1 / (torch.pi * blurred[50, 50].item())) ** 0.5, 1), blurred[50, 56].item() < 1e-6
        (4.2, True)
    """

    name = "defocus"
    parameters = (0.008, 0.014, 0.021, 0.03, 0.042)
    meaning = "radius, of the shorter side"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        return convolve(pixels, disk_kernel(parameter * min(pixels.shape[1:])))


class BlurDefocusd(Corruptiond):
    """Dictionary twin of :class:`BlurDefocus`."""

    corruption = BlurDefocus
