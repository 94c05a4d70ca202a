"""Synthetic images for benchmarks, in any number, and too hard for a perfect linear probe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

__all__ = ["SyntheticImages", "synthetic_images"]

_ANGLE_JITTER = 0.45  # in distances between two classes: neighbours overlap
_NOISE = 0.25
_CHUNK = 64


@dataclass(frozen=True)
class SyntheticImages(Dataset[dict[str, Any]]):
    """Images in memory with the items of :class:`movl_monai.data.ImageDataset` that training needs.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,).
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index]), "index": index}


def synthetic_images(count: int, *, image_size: int, num_classes: int, seed: int = 0) -> SyntheticImages:
    """Draw stripes whose angle is the class, with overlap between neighbouring classes, under noise.

    Frequency, phase, contrast, brightness and tint are random.

    Args:
        count: number of images; the classes take turns.
        image_size: side in pixels.
        num_classes: number of angles.
        seed: of everything.

    Example:
        >>> data = synthetic_images(4, image_size=16, num_classes=2)
        >>> data.images.shape, data.images.dtype, data.labels.tolist()
        (torch.Size([4, 3, 16, 16]), torch.uint8, [0, 1, 0, 1])
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    images = torch.empty(count, 3, image_size, image_size, dtype=torch.uint8)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        images[rows] = _draw(labels[rows].float() / num_classes, 1 / num_classes, image_size, generator)
    return SyntheticImages(images, labels)


def _draw(turns: torch.Tensor, step: float, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draw one image per angle (in half turns, ``step`` apart between classes), uint8 (B, 3, size, size)."""

    def uniform(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(turns), channels, 1, 1, generator=generator)

    jitter = torch.randn(len(turns), generator=generator) * _ANGLE_JITTER * step
    angle = (math.pi * (turns + jitter)).view(-1, 1, 1, 1)
    axis = torch.linspace(0, 1, size)
    along = axis.view(1, 1, 1, -1) * angle.cos() + axis.view(1, 1, -1, 1) * angle.sin()
    stripes = (2 * math.pi * (uniform(8, 16) * along + uniform(0, 1))).sin()
    noise = torch.randn(len(turns), 1, size, size, generator=generator) * _NOISE
    image = uniform(0.35, 0.65) + uniform(0.05, 0.3) * stripes + noise + uniform(-0.1, 0.1, channels=3)
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)
