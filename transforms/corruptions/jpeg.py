"""Lossy compression, as by messengers and slide shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond
from movl_monai.transforms.quantize import image_to_uint8, uint8_to_image

__all__ = ["CompressJPEG", "CompressJPEGd"]


class CompressJPEG(Corruption):
    """Write the image as JPEG of quality 40 to 6 and read it again.

    The blocks of JPEG have 8 x 8 pixels of the given image, so they cover a larger part of a smaller image. Grey images
    are compressed as grey, others with Pillow's usual subsampling of colours.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (25 to 7); MedMNIST-C, 2024 (50 to 7).

    Example:
        >>> image = torch.linspace(0, 1, 32).expand(3, 32, 32)
        >>> 0 < (CompressJPEG(severity=5)(image) - image).abs().mean() < 0.1
        tensor(True)
    """

    name = "jpeg"
    parameters = (40, 25, 15, 10, 6)
    meaning = "quality, of 100"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        levels = image_to_uint8(pixels).permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(levels[..., 0] if len(pixels) == 1 else levels).save(file, "JPEG", quality=parameter)
        with Image.open(file) as image:
            decoded = np.array(image)
        return uint8_to_image(torch.from_numpy(decoded.reshape(levels.shape)).permute(2, 0, 1))


class CompressJPEGd(Corruptiond):
    """Dictionary twin of :class:`CompressJPEG`."""

    corruption = CompressJPEG
