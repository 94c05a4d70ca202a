"""The rows of the method battery: a new prompt, adapter, head or backbone adds a row here and gets all of its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from movl_monai.adapters import DVPT, SSF, VPT, Adapter, AdaptFormer, BitFit, LoRA
from movl_monai.backbones import Backbone, ResNetBackbone, TimmBackbone
from movl_monai.heads import LabelMapping, LinearHead, MappedHead, QueryHead, ZeroShotHead
from movl_monai.prompts import ExpandPrompt, FullImagePrompt, LowRankPrompt, PadPrompt, PatchPrompt
from tests.helpers import IMAGE_SIZE, tiny_clip, tiny_swin

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
# the same read at several depths
LAYERED = [
    BackboneCase("vit", lambda **o: TimmBackbone("test_vit", image_size=IMAGE_SIZE, layers="all", **o)),
    BackboneCase(
        "efficientnet", lambda **o: TimmBackbone("test_efficientnet", image_size=IMAGE_SIZE, layers=[1, 3], **o)
    ),
]

TRANSFORMERS = [
    BACKBONES[3],
    BackboneCase("swin", lambda **o: tiny_swin(**o)),
    BackboneCase("clip_vit", lambda **o: tiny_clip(**o)),
]


@dataclass(frozen=True)
class AdapterCase:
    """An adapter; `identity` and `hosted` say on which of the TRANSFORMERS it starts as the identity, and can be."""

    name: str
    make: Callable[[Backbone], Adapter] | None
    identity: tuple[str, ...] = ("vit", "swin", "clip_vit")
    hosted: tuple[str, ...] = ("vit", "swin", "clip_vit")


NO_ADAPTER = AdapterCase("none", None)
# those with identity=("swin",) or () append tokens to a sequence, which take a share of its attention
ADAPTERS = [
    AdapterCase("dvpt", lambda b: DVPT(b, num_prompts=3, bottleneck=4, share_every=2), identity=("swin",)),
    AdapterCase("dvpt_unshared", lambda b: DVPT(b, num_prompts=2, bottleneck=4, share_every=1), identity=("swin",)),
    AdapterCase(
        "dvpt_as_released", lambda b: DVPT(b, num_prompts=3, bottleneck=4, as_released=True), identity=("swin",)
    ),
    AdapterCase("dvpt_last_blocks", lambda b: DVPT(b, num_prompts=3, bottleneck=4, blocks=[2, 3]), identity=("swin",)),
    AdapterCase("vpt_shallow", lambda b: VPT(b, num_prompts=3, deep=False), identity=(), hosted=("vit", "clip_vit")),
    AdapterCase("vpt_deep", lambda b: VPT(b, num_prompts=3), identity=(), hosted=("vit", "clip_vit")),
    AdapterCase("adaptformer", lambda b: AdaptFormer(b, bottleneck=4)),
    AdapterCase("lora", lambda b: LoRA(b, rank=2)),
    AdapterCase("lora_all", lambda b: LoRA(b, rank=2, alpha=4, targets=["q", "k", "v", "proj"])),
    AdapterCase("ssf", lambda b: SSF(b)),
    AdapterCase("bitfit", lambda b: BitFit(b)),
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


def _query(num_features: int) -> QueryHead:
    head = QueryHead(num_features, NUM_CLASSES, token_width=num_features, num_queries=4)
    head.linear = _linear(num_features)
    with torch.no_grad():
        head.output.normal_(generator=torch.Generator().manual_seed(5))
    return head


HEADS = [
    HeadCase("linear", _linear),
    HeadCase("zero_shot", _zero_shot, trainable=False),
    HeadCase("mapped", _mapped, trainable=False),
    HeadCase("query", _query),
]
