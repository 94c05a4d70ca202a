"""Base classes of the corruptions: severities, seeds per image, and checks of the image."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

__all__ = ["Corruption", "Corruptiond"]


class Corruption(Transform, ABC):
    """Damage an image to a given degree, reproducibly for a seed and an image.

    Random draws (noise, directions, places) depend only on ``seed``, the image's id and the corruption. They do not
    depend on the severity, so that the severities of one image differ only in strength, nor on the order of the images,
    the batch or the number of workers. No global generator is used. A grey image, whose three channels are equal, is
    corrupted as one channel and stays grey. Lengths are fractions of the image's shorter side.

    Args:
        severity: from 1 to the number of ``parameters``; 0 returns the image unchanged.
        seed: of all draws, >= 0.

    Attributes:
        name: for tables and command lines.
        parameters: parameter of each severity, beginning with 1; most have five.
        meaning: description of the parameters, for readers of a table.

    Raises:
        ValueError: for another severity, or a negative seed.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[Any, ...]]
    meaning: ClassVar[str]

    def __init__(self, *, severity: int = 3, seed: int = 0) -> None:
        if not isinstance(severity, int) or not 0 <= severity <= len(self.parameters):
            raise ValueError(
                f"severity of {self.name} must be a whole number from 0 (unchanged) to {len(self.parameters)}, got"
                f" {severity!r}."
            )
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number >= 0, got {seed!r}.")
        self.severity = severity
        self.seed = seed

    def __call__(self, image: NdarrayOrTensor, image_id: str = "") -> torch.Tensor:
        """Corrupt an image.

        Args:
            image: floating (3, H, W) in [0, 1].
            image_id: unique id of the image; equal ids give equal draws.

        Returns:
            float32 (3, H, W) in [0, 1].

        Raises:
            ValueError: if the image is not floating (3, H, W), or has values outside [0, 1] or NaN.
        """
        pixels = _checked(image)
        if self.severity == 0:
            return pixels
        grey = bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
        result = self._corrupt(
            (pixels[:1] if grey else pixels).cpu(), self.parameters[self.severity - 1], self._generator(image_id)
        )
        # a separate copy of every channel, as callers may write into the result
        return result.to(pixels.device, torch.float32).clamp(0, 1).expand(3, -1, -1).contiguous()

    @abstractmethod
    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        """Corrupt pixels.

        Args:
            pixels: float32 (C, H, W) in [0, 1] on the CPU, read-only; C is 1 for a grey image, else 3.
            parameter: of the severity.
            generator: random generator of this image.

        Returns:
            (C, H, W); values outside [0, 1] are clamped.
        """

    def _generator(self, image_id: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.name}\0{self.seed}\0{image_id}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _checked(image: NdarrayOrTensor) -> torch.Tensor:
    pixels = convert_to_tensor(image, track_meta=False)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.numel() == 0 or not pixels.is_floating_point():
        raise ValueError(
            f"image must be floating (3, H, W) in [0, 1], got {pixels.dtype} {tuple(pixels.shape)}; corrupt one image"
            " at a time, before it becomes uint8."
        )
    low, high = (float(value) for value in torch.aminmax(pixels))
    # written so that NaN fails
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image must be in [0, 1], got values from {low:.4g} to {high:.4g}; window or clamp it first.")
    return pixels.to(torch.float32).clone()


class Corruptiond(MapTransform):
    """Base of the dictionary twins: corrupts the images under the keys, with the item's id.

    Args:
        keys: of the images; all get the same draws.
        severity: as of the array form.
        seed: as of the array form.
        id_key: of the image's id.
        allow_missing_keys: whether items may lack a key.

    Attributes:
        corruption: the array form.

    Raises:
        ValueError: for impossible options.
    """

    corruption: ClassVar[type[Corruption]]

    def __init__(
        self,
        keys: KeysCollection,
        *,
        severity: int = 3,
        seed: int = 0,
        id_key: str = "id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.id_key = id_key
        self.transform = self.corruption(severity=severity, seed=seed)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Corrupt the images under the keys; the other entries are kept.

        Raises:
            ValueError: if the item has no id; without one all images would have the same draws.
        """
        result = dict(data)
        if self.id_key not in result:
            raise ValueError(
                f"An item needs an id under {self.id_key!r}, which its draws depend on; name another id_key."
            )
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key], str(result[self.id_key]))
        return result
