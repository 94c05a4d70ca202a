"""Tiny stand-ins that the tests share: a backbone that takes a millisecond, a data set in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from movl_monai.backbones import Backbone, TimmBackbone

IMAGE_SIZE = 32


def tiny_backbone(*, seed: int = 0, frozen: bool = True) -> Backbone:
    """A real timm network of 0.4 M parameters with random weights, for images of 32 px."""
    return TimmBackbone("test_efficientnet", weights=None, image_size=IMAGE_SIZE, seed=seed, frozen=frozen)


@dataclass
class MemoryDataset(torch.utils.data.Dataset):
    """Images whose brightness tells the class, as uint8, with the fields of the data layer's items."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"image": self.images[index], "label": int(self.labels[index]), "index": index, "id": f"{index:012x}"}


def memory_dataset(count: int = 24, *, num_classes: int = 2, seed: int = 0, size: int = IMAGE_SIZE) -> MemoryDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    noise = torch.randint(0, 60, (count, 3, size, size), generator=generator)
    bright = (labels * 160 // max(1, num_classes - 1)).view(-1, 1, 1, 1)
    return MemoryDataset(images=(noise + bright).to(torch.uint8), labels=labels)
