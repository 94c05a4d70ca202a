"""The segmenter: maps with and without adapters, trained parts, contents of a checkpoint, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movl_monai.adapters import DVPT, Adapter, LoRA
from movl_monai.backbones import Backbone, ResNetBackbone, TimmBackbone, map_channels
from movl_monai.errors import CheckpointMismatchError, ConfigError
from movl_monai.heads import SegmentationHead
from movl_monai.networks import AdaptedSegmenter, load_checkpoint, save_atomically
from movl_monai.networks.adapted import TokenMaps
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone, tiny_clip, tiny_swin, tiny_vit

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "efficientnet": tiny_backbone,
    "resnet": lambda **o: ResNetBackbone("resnet18", weights=None, image_size=IMAGE_SIZE, **o),
    "vit": lambda **o: tiny_vit(image_size=IMAGE_SIZE, **o),
    "swin": tiny_swin,
    "clip": tiny_clip,
}
ADAPTERS: dict[str, Callable[[Backbone], Adapter]] = {
    "dvpt": lambda b: DVPT(b, num_prompts=3, bottleneck=4),
    "lora": lambda b: LoRA(b, rank=2),
}


def _network(name: str, adapter: str | None = None, **options: object) -> AdaptedSegmenter:
    backbone = BACKBONES[name](**options)
    return AdaptedSegmenter(
        backbone=backbone,
        prompt=PadPrompt(image_size=IMAGE_SIZE, width=4),
        adapter=None if adapter is None else ADAPTERS[adapter](backbone),
        head=SegmentationHead(map_channels(backbone), 3, width=8),
        class_names=["background", "a", "b"],
    )


def _images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(3))


def _perturbed(network: AdaptedSegmenter) -> AdaptedSegmenter:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("backbone."):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


rows = pytest.mark.parametrize(
    ("name", "adapter"),
    [*((name, None) for name in BACKBONES), *((n, a) for n in ("vit", "swin", "clip") for a in ADAPTERS)],
)


@rows
def test_logits_have_the_images_resolution(name: str, adapter: str | None) -> None:
    logits = _network(name, adapter)(_images())
    assert logits.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_without_an_adapter_the_maps_are_those_of_the_backbone(name: str) -> None:
    network = _network(name).eval()
    for one, other in zip(network.maps(_images()), network.backbone.forward_features(_images()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_that_starts_as_the_identity_leaves_the_maps_of_a_hierarchy(adapter: str) -> None:
    network = _network("swin", adapter).eval()
    for one, other in zip(network.maps(_images()), network.backbone.forward_features(_images()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_appended_prompts_are_in_no_map_and_yet_change_it() -> None:
    plain, adapted = _network("vit").eval(), _network("vit", "dvpt").eval()
    for one, other in zip(adapted.maps(_images()), plain.maps(_images()), strict=True):
        assert one.shape == other.shape
        assert not torch.allclose(one, other, atol=1e-6)


@rows
def test_gradients_reach_exactly_the_parts_that_train(name: str, adapter: str | None) -> None:
    network = _perturbed(_network(name, adapter)).train()
    target = torch.randint(0, 3, (2, IMAGE_SIZE, IMAGE_SIZE), generator=torch.Generator().manual_seed(0))
    before = network.backbone.content_sha256()
    torch.nn.functional.cross_entropy(network(_images()), target).backward()
    reached = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {"prompt", "head"} | ({"adapter"} if adapter else set())
    assert not any(module.training for module in network.backbone.modules())
    assert network.backbone.content_sha256() == before


@rows
def test_a_checkpoint_restores_the_masks_and_holds_no_backbone(name: str, adapter: str | None, tmp_path: Path) -> None:
    trained = _perturbed(_network(name, adapter)).eval()
    save_atomically(trained.state_dict(), tmp_path / "model.pt")
    loaded = _network(name, adapter).eval()
    loaded.load_state_dict(load_checkpoint(tmp_path / "model.pt"))
    assert torch.equal(loaded(_images()), trained(_images()))
    assert {key.split(".")[0] for key in trained.state_dict()} <= {"prompt", "adapter", "head", "_extra_state"}


def test_a_checkpoint_refuses_other_frozen_weights() -> None:
    state = _network("efficientnet").state_dict()
    with pytest.raises(CheckpointMismatchError, match="frozen weights"):
        _network("efficientnet", seed=7).load_state_dict(state)


@rows
def test_torchscript_segments_the_same_for_any_batch_size(name: str, adapter: str | None) -> None:
    network = _perturbed(_network(name, adapter)).eval()
    scripted = torch.jit.script(network)
    for count in (1, 3):
        torch.testing.assert_close(scripted(_images(count)), network(_images(count)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet", "vit"])
def test_a_backbone_that_trains_gets_gradients_and_is_saved_once(name: str) -> None:
    network = _network(name, frozen=False).train()
    network(_images()).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.backbone.parameters())
    keys = network.state_dict()
    assert not any(key.startswith("adapted.") for key in keys)
    twin = _network(name, frozen=False, seed=4)
    twin.load_state_dict(keys)
    torch.testing.assert_close(twin.eval()(_images()), network.eval()(_images()))


def test_maps_of_a_backbone_that_trains_see_its_new_weights() -> None:
    network = _network("vit", frozen=False)
    assert isinstance(network.adapted, TokenMaps)
    before = network.maps(_images())[0].detach()
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(network.maps(_images())[0], before)


def test_a_head_for_other_maps_or_classes_is_refused() -> None:
    backbone = TimmBackbone("test_efficientnet", image_size=IMAGE_SIZE)
    with pytest.raises(ConfigError, match="map_channels"):
        AdaptedSegmenter(backbone=backbone, head=SegmentationHead([8, 8], 2, width=8))
    with pytest.raises(ConfigError, match="background counts"):
        AdaptedSegmenter(
            backbone=backbone, head=SegmentationHead(map_channels(backbone), 2, width=8), class_names=["a", "b", "c"]
        )
