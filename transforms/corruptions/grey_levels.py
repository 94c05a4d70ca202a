"""Changed grey levels: lower contrast, another curve, inverted polarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2.functional import adjust_contrast, adjust_gamma

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["ChangeGamma", "ChangeGammad", "InvertPolarity", "InvertPolarityd", "LowerContrast", "LowerContrastd"]


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


class InvertPolarity(Corruption):
    """Invert the image, ``y = 1 - x``, as for a MONOCHROME1 image whose PhotometricInterpretation is ignored.

    It has one severity: the polarity is either right or wrong. A mixture of both, such as ``|x - s|``, is no possible
    fault of a reader.

    Args:
        severity: 1; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        DICOM PS3.3, C.7.6.3.1.2 (MONOCHROME1: the minimum is to be shown as white).

    Example:
        >>> InvertPolarity()(torch.tensor([0.0, 0.2, 1.0]).expand(3, 1, 3))[0]
        tensor([[1.0000, 0.8000, 0.0000]])
    """

    name = "inversion"
    parameters = (1,)
    meaning = "one form: black is white"

    def __init__(self, *, severity: int = 1, seed: int = 0) -> None:
        super().__init__(severity=severity, seed=seed)

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        return 1 - pixels


class InvertPolarityd(Corruptiond):
    """Dictionary twin of :class:`InvertPolarity`."""

    corruption = InvertPolarity

    def __init__(
        self,
        keys: Any,
        *,
        severity: int = 1,
        seed: int = 0,
        id_key: str = "id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, severity=severity, seed=seed, id_key=id_key, allow_missing_keys=allow_missing_keys)
