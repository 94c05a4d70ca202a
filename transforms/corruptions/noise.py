"""Noise, as from too low a dose or from a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["AddGaussianNoise", "AddGaussianNoised", "AddQuantumNoise", "AddQuantumNoised"]


class AddGaussianNoise(Corruption):
    r"""Add white Gaussian noise.

    .. math:: y = x + \sigma\,\epsilon, \qquad \epsilon \sim N(0, 1)

    with :math:`\sigma` from 0.03 to 0.22 of the range between black and white. The noise is drawn per pixel of the
    given image, so its grain is finer in a larger image.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the noise.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
        2019 (ImageNet-C: 0.08 to 0.38); Di Salvo, Doerrich, Ledig, "MedMNIST-C", 2024 (chest radiographs: 0.04 to
        0.26).

    Example:
        >>> noisy = AddGaussianNoise(severity=5)(torch.full((3, 64, 64), 0.5), "an id")
        >>> round(noisy.std().item(), 1), torch.equal(noisy[0], noisy[2])
        (0.2, True)
    """

    name = "gaussian_noise"
    parameters = (0.03, 0.06, 0.1, 0.15, 0.22)
    meaning = "standard deviation, of the range from black to white"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        return pixels + parameter * torch.from_numpy(generator.standard_normal(tuple(pixels.shape)))


class AddGaussianNoised(Corruptiond):
    """Dictionary twin of :class:`AddGaussianNoise`."""

    corruption = AddGaussianNoise


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
