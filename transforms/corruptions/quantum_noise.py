"""Quantum noise, as from too low a dose or too little light."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["AddQuantumNoise", "AddQuantumNoised"]


class AddQuantumNoise(Corruption):
    r"""Replace every value by a count of quanta.

    .. math:: y = n / N, \qquad n \sim \mathrm{Poisson}(N x)

    where white is ``N`` quanta, from 250 down to 10. The variance :math:`x / N` grows with brightness. In a radiograph
    with bright bones few quanta pass through the dense parts, so bright parts are noisy there as well. The attenuation
    itself is unknown after windowing and not modelled.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the noise.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 ("shot noise": 60 to 3 quanta); MedMNIST-C, 2024 (paediatric chest
        radiographs: 300 to 80, adult ones: 60 to 5).

    Example:
        >>> noisy = AddQuantumNoise(severity=5)(torch.full((3, 64, 64), 0.5), "an id")
        >>> bool(torch.isclose(noisy * 10, (noisy * 10).round()).all())
        True
    """

    name = "quantum_noise"
    parameters = (250, 100, 45, 20, 10)
    meaning = "quanta of a white pixel"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(generator.poisson(pixels.numpy() * parameter) / parameter)


class AddQuantumNoised(Corruptiond):
    """Dictionary twin of :class:`AddQuantumNoise`."""

    corruption = AddQuantumNoise
