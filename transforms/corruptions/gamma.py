"""Nonlinear change of the grey scale, as from another lookup table or display."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2.functional import adjust_gamma

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["ChangeGamma", "ChangeGammad"]


class ChangeGamma(Corruption):
    r"""Raise all values to a power.

    .. math:: y = x^\gamma, \qquad \gamma = e^{\pm s}

    with ``s`` from 0.15 to 0.9; the sign, darker or brighter, is drawn for each image.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the sign.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        MedMNIST-C, 2024 (1.1 to 1.6, and 0.9 to 0.4, as two corruptions).

    Example:
        >>> changed = ChangeGamma(severity=5)(torch.full((3, 1, 1), 0.5), "an id")[0].item()
        >>> round(abs(float(np.log(np.log(changed) / np.log(0.5)))), 4)
        0.9
    """

    name = "gamma"
    parameters = (0.15, 0.3, 0.45, 0.65, 0.9)
    meaning = "natural logarithm of gamma, plus or minus"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        sign = 1 if generator.uniform() < 0.5 else -1
        return adjust_gamma(pixels, float(np.exp(sign * parameter)))


class ChangeGammad(Corruptiond):
    """Dictionary twin of :class:`ChangeGamma`."""

    corruption = ChangeGamma
