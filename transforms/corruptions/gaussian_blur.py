"""Soft blur, as from smoothing in a reconstruction or a worn detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["BlurGaussian", "BlurGaussiand"]


class BlurGaussian(Corruption):
    """Blur with a Gaussian whose standard deviation is from 0.4 to 2.7 % of the image's shorter side.

    The border values extend beyond the image.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (1 to 6 of 224 pixels).

    Example:
        >>> image = torch.zeros(3, 101, 101)
        >>> image[:, 50, 50] = 1
        >>> blurred = BlurGaussian(severity=5)(image)
        >>> round(blurred[0].sum().item(), 3), round(1 / (2 * torch.pi * blurred[0, 50, 50].item()) ** 0.5, 1)
        (1.0, 2.7)
    """

    name = "gaussian_blur"
    parameters = (0.004, 0.008, 0.013, 0.019, 0.027)
    meaning = "standard deviation, of the shorter side"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        sigma = parameter * min(pixels.shape[1:])
        return torch.from_numpy(gaussian_filter(pixels.numpy(), sigma=(0, sigma, sigma), mode="nearest"))


class BlurGaussiand(Corruptiond):
    """Dictionary twin of :class:`BlurGaussian`."""

    corruption = BlurGaussian
