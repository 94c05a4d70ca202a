"""Training of attention over the images of units, from cached features relative to from images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import prepare_frozen
from movl_monai.data import Units
from movl_monai.engines import InstanceSet
from movl_monai.heads import AttentionPooling, LinearHead
from movl_monai.networks import UnitClassifier

from .clock import compare_actions
from .settings import BenchSettings, synthetic_images

__all__ = ["run"]

_IMAGES_PER_UNIT = 8


@dataclass(frozen=True)
class _Units:
    """Images of units, of one after the other, with their rows and labels."""

    images: torch.Tensor
    labels: torch.Tensor
    ranges: list[range]

    def __len__(self) -> int:
        return len(self.ranges)


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare a step over the same units, ``unit_step_cached_vs_images``: ours relative to the plain step.

    Ours reads the features of the images from the cache, which is already filled. The plain step computes them from
    float images that are already on the device. Both then pool by attention and step attention and head with Adam.
    """
    backbone = prepare_frozen(settings.backbone().to(settings.device))
    count = max(2, settings.batch_size // _IMAGES_PER_UNIT)
    drawn = synthetic_images(
        count * _IMAGES_PER_UNIT, image_size=backbone.spec.image_size, num_classes=2, seed=settings.seed
    )
    ranges = [range(start, start + _IMAGES_PER_UNIT) for start in range(0, len(drawn.images), _IMAGES_PER_UNIT)]
    data = _Units(drawn.images, torch.arange(count) % 2, ranges)
    features = backbone.spec.num_features
    network = UnitClassifier(
        backbone=backbone,
        pooling=AttentionPooling(features),
        head=LinearHead(features, 2),
        units=Units(unit="study"),
    ).to(settings.device)
    cached = InstanceSet(data, backbone, device=settings.device, progress=False)
    behind, index = cached.behind(network), torch.arange(count)
    image = (data.images.float() / 255).to(settings.device).unflatten(0, (count, _IMAGES_PER_UNIT))
    labels = data.labels.to(settings.device)
    optimizer = torch.optim.Adam([*network.pooling.parameters(), *network.head.parameters()], lr=1e-4)

    def step(module: nn.Module, inputs: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(module(inputs), labels).backward()
        optimizer.step()

    _ = cached.instances  # fills the cache before timing
    return compare_actions(
        "unit_step_cached_vs_images",
        ours=lambda: step(behind, cached.rows(index, settings.device)),
        other=lambda: step(network, image),
        **settings.repetitions,
    )
