"""Images and network of the sections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from movl_monai.backbones import Backbone
from movl_monai.engines import standardization
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt

from .settings import BenchSettings

__all__ = ["Batch", "SyntheticImages", "float_batches", "make_network", "synthetic_images"]


Batch = tuple[torch.Tensor, torch.Tensor]


def make_network(backbone: Backbone, settings: BenchSettings, features: torch.Tensor) -> AdaptedClassifier:
    """Return a backbone with a border prompt before and a linear head after it, on the settings' device.

    The head does not start at zero, because no gradient would then reach the prompt.

    Args:
        backbone: shared, not copied.
        settings: sizes and seed.
        features: plain features (N, num_features), for the centre and scale of the head's input.
    """
    spec = backbone.spec
    head = LinearHead(spec.num_features, settings.num_classes, init="uniform", seed=settings.seed)
    head.set_standardization(*standardization(features))
    prompt = PadPrompt(image_size=spec.image_size, width=settings.prompt_width)
    return AdaptedClassifier(backbone=backbone, prompt=prompt, head=head).to(settings.device)


def float_batches(data: Any, settings: BenchSettings) -> list[Batch]:
    """Return all batches of a data set, on the device, as float32 images in [0, 1] and int64 labels or masks."""
    targets = data.masks if hasattr(data, "masks") else data.labels
    return [
        (image.to(settings.device).float() / 255, target.to(settings.device).long())
        for image, target in zip(
            data.images.split(settings.batch_size), targets.split(settings.batch_size), strict=True
        )
    ]


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
