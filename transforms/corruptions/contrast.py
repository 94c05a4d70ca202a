"""Lower contrast, as from a window that is too wide or from scattered radiation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2.functional import adjust_contrast

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["LowerContrast", "LowerContrastd"]


class LowerContrast(Corruption):
    r"""Move all values towards the mean grey level :math:`\mu` of the image.

    .. math:: y = \mu + c\,(x - \mu)

    with the contrast :math:`c` from 0.8 down to 0.2.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        MedMNIST-C, 2024 (0.9 to 0.4); Hendrycks, Dietterich, ICLR 2019 (0.4 to 0.05).

    Example:
        >>> LowerContrast(severity=5)(torch.tensor([0.0, 1.0]).expand(3, 1, 2))[0]
        tensor([[0.4000, 0.6000]])
    """

    name = "contrast"
    parameters = (0.8, 0.65, 0.5, 0.35, 0.2)
    meaning = "contrast that is left"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        return adjust_contrast(pixels, parameter)


class LowerContrastd(Corruptiond):
    """Dictionary twin of :class:`LowerContrast`."""

    corruption = LowerContrast
