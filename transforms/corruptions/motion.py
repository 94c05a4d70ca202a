"""Motion blur along a line, as from a patient who moves during the exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond
from movl_monai.transforms.corruptions.kernels import convolve, line_kernel

__all__ = ["BlurMotion", "BlurMotiond"]


class BlurMotion(Corruption):
    """Average the image over a straight, uniform movement in a direction drawn for each image.

    The length of the movement is from 1.5 to 12 % of the image's shorter side. It models movement during a projection
    or a photograph, not movement in magnetic resonance, which mixes parts of k-space and leaves ghosts.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the direction.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (10 to 20 of 224 pixels); Pérez-García et al., TorchIO, 2021, for movement in
        magnetic resonance, which is not modelled here.

    Example:
        >>> image = torch.zeros(3, 100, 100)
        >>> image[:, 50, 50] = 1
        >>> blurred = BlurMotion(severity=5)(image, "an id")[0]
        >>> round(blurred.sum().item(), 3), bool(torch.allclose(blurred[1:, 1:], blurred[1:, 1:].flip(0, 1), atol=1e-6))
        (1.0, True)
    """

    name = "motion"
    parameters = (0.015, 0.03, 0.05, 0.08, 0.12)
    meaning = "length of the way, of the shorter side"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        angle = generator.uniform(0, np.pi)
        return convolve(pixels, line_kernel(parameter * min(pixels.shape[1:]), angle))


class BlurMotiond(Corruptiond):
    """Dictionary twin of :class:`BlurMotion`."""

    corruption = BlurMotion
