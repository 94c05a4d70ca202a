"""Tiny stand-ins that the tests share: a backbone that takes a millisecond, a data set in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from movl_monai.backbones import Backbone, CLIPBackbone, TimmBackbone

IMAGE_SIZE = 32


def tiny_backbone(*, seed: int = 0, frozen: bool = True, **options: Any) -> Backbone:
    """A real timm network of 0.4 M parameters with random weights, for images of 32 px."""
    return TimmBackbone("test_efficientnet", weights=None, image_size=IMAGE_SIZE, seed=seed, frozen=frozen, **options)


def tiny_vit(
    *, name: str = "test_vit", seed: int = 0, frozen: bool = True, image_size: int = 64, **options: Any
) -> Backbone:
    """A real plain ViT of timm with random weights: 6 blocks of width 64, 4 x 4 tokens of 16 px at 64 px."""
    return TimmBackbone(name, image_size=image_size, seed=seed, frozen=frozen, **options)


def tiny_swin(*, seed: int = 0, frozen: bool = True, **options: Any) -> Backbone:
    """A real Swin of timm with random weights for images of 32 px: 2 + 3 blocks of widths 16 and 32, windows of 4."""
    sizes = {"embed_dim": 16, "depths": (2, 3), "num_heads": (1, 2), "window_size": 4}
    return TimmBackbone(
        "swin_tiny_patch4_window7_224", image_size=IMAGE_SIZE, model_options=sizes, seed=seed, frozen=frozen, **options
    )


def tiny_clip(*, seed: int = 0, frozen: bool = True, **options: Any) -> Backbone:
    """A real CLIP ViT of open_clip with random weights for images of 32 px: 4 blocks of width 32, 4 x 4 tokens."""
    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    return CLIPBackbone("tiny", config=config, seed=seed, frozen=frozen, **options)


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


QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]
"""Marks of a test that runs workflows of MONAI, which warn about the future of other libraries."""
