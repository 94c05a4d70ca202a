"""The rows of the method battery: a new prompt, head or backbone adds a row here and gets all of its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from movl_monai.backbones import Backbone, ResNetBackbone, TimmBackbone
from movl_monai.heads import LabelMapping, LinearHead, MappedHead, ZeroShotHead
from movl_monai.prompts import ExpandPrompt, FullImagePrompt, LowRankPrompt, PadPrompt, PatchPrompt
from tests.helpers import IMAGE_SIZE

NUM_CLASSES = 3


@dataclass(frozen=True)
class PromptCase:
    """A prompt for images of IMAGE_SIZE; `identity` is whether it leaves images as they are at initialisation."""

    name: str
    make: Callable[[], nn.Module]
    identity: bool = True
    trainable: bool = True


PROMPTS = [
    PromptCase("none", nn.Identity, trainable=False),
    PromptCase("pad", lambda: PadPrompt(image_size=IMAGE_SIZE, width=4)),
    PromptCase(
        "pad_normalized", lambda: PadPrompt(image_size=IMAGE_SIZE, width=4, space="normalized", std=(0.2, 0.2, 0.2))
    ),
    PromptCase("full_image", lambda: FullImagePrompt(image_size=IMAGE_SIZE)),
    PromptCase("patch", lambda: PatchPrompt(image_size=IMAGE_SIZE, size=8, position=(4, 4))),
    PromptCase("low_rank", lambda: LowRankPrompt(image_size=IMAGE_SIZE, rank=2)),
    PromptCase("expand", lambda: ExpandPrompt(image_size=IMAGE_SIZE, width=4), identity=False),
    PromptCase(
        "random_border",
        lambda: PadPrompt(image_size=IMAGE_SIZE, width=4, init="normal", trainable=False),
        identity=False,
        trainable=False,
    ),
]


@dataclass(frozen=True)
class BackboneCase:
    """A small real backbone for images of IMAGE_SIZE, with random weights from a seed."""

    name: str
    make: Callable[..., Backbone]
    scripts: bool = True


BACKBONES = [
    BackboneCase("resnet18", lambda **o: ResNetBackbone("resnet18", weights=None, image_size=IMAGE_SIZE, **o)),
    BackboneCase(
        "resnet50_v1", lambda **o: ResNetBackbone("resnet50", weights=None, strides="v1", image_size=IMAGE_SIZE, **o)
    ),
    BackboneCase(
        "efficientnet", lambda **o: TimmBackbone("test_efficientnet", weights=None, image_size=IMAGE_SIZE, **o)
    ),
    BackboneCase("vit", lambda **o: TimmBackbone("test_vit", weights=None, image_size=IMAGE_SIZE, **o)),
]


@dataclass(frozen=True)
class HeadCase:
    """A head with NUM_CLASSES logits, not at its zero start, so that gradients pass through it."""

    name: str
    make: Callable[[int], nn.Module]
    trainable: bool = True


def _linear(num_features: int) -> LinearHead:
    head = LinearHead(num_features, NUM_CLASSES, init="uniform")
    head.set_standardization(torch.full((num_features,), 0.1), 2.0)
    return head


def _zero_shot(num_features: int) -> ZeroShotHead:
    embeddings = torch.randn(NUM_CLASSES, num_features, generator=torch.Generator().manual_seed(2))
    return ZeroShotHead(embeddings, logit_scale=5.0)


def _mapped(num_features: int) -> MappedHead:
    generator = torch.Generator().manual_seed(4)
    source = torch.randn(10, num_features, generator=generator)
    head = MappedHead(source, None, LabelMapping(10, NUM_CLASSES, method="frequency"))
    head.fit(torch.randn(30, num_features, generator=generator), torch.arange(30) % NUM_CLASSES)
    return head


HEADS = [
    HeadCase("linear", _linear),
    HeadCase("zero_shot", _zero_shot, trainable=False),
    HeadCase("mapped", _mapped, trainable=False),
]
