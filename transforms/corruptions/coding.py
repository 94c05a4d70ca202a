"""Loss by coding: JPEG, and storage at a smaller size."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond
from movl_monai.transforms.resize import image_to_uint8, uint8_to_image

__all__ = ["CompressJPEG", "CompressJPEGd", "ResampleCoarsely", "ResampleCoarselyd"]


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


class ResampleCoarsely(Corruption):
    """Downsample the image to 60 to 15 % of its rows and columns, antialiased, and upsample it; both bilinear.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        MedMNIST-C, 2024, and Hendrycks, Dietterich, ICLR 2019 ("pixelate": 80 to 10 %, 60 to 25 %). Deviation: shown
        smooth, as viewers do, instead of in squares.

    Example:
        >>> stripes = (torch.arange(64) % 2).float().expand(3, 64, 64)
        >>> ResampleCoarsely(severity=5)(stripes)[0, 32, 20:24].round(decimals=1)
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    name = "resampling"
    parameters = (0.6, 0.45, 0.32, 0.22, 0.15)
    meaning = "rows and columns that are left"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        rows, columns = pixels.shape[1:]
        small = max(1, round(rows * parameter)), max(1, round(columns * parameter))
        coarse = F.interpolate(pixels[None], size=small, mode="bilinear", antialias=True)
        return F.interpolate(coarse, size=(rows, columns), mode="bilinear")[0]


class ResampleCoarselyd(Corruptiond):
    """Dictionary twin of :class:`ResampleCoarsely`."""

    corruption = ResampleCoarsely
