"""Inverted polarity, as from a reader that ignores MONOCHROME1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["InvertPolarity", "InvertPolarityd"]


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
