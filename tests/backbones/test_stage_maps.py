"""Feature maps of hierarchies: the same as the network's own, exportable, and without a trace in the network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from movl_monai.backbones import Backbone, CLIPBackbone, ResNetBackbone, TimmBackbone, prepare_frozen
from movl_monai.backbones.stage_maps import StageMaps, map_channels, stage_maps
from movl_monai.errors import ConfigError
from tests.helpers import tiny_swin, tiny_vit

HIERARCHIES: dict[str, tuple[Callable[[], Backbone], list[int]]] = {
    "efficientnet": (lambda: TimmBackbone("test_efficientnet", image_size=64), [24, 32, 48, 64]),
    "resnet": (lambda: TimmBackbone("test_resnet", image_size=64), [32, 48, 192, 96]),
    "torchvision_resnet": (lambda: ResNetBackbone("resnet18", image_size=64), [64, 128, 256, 512]),
    "convnext": (lambda: TimmBackbone("test_convnext", image_size=64), [24, 32, 48, 64]),
    "pvt": (lambda: TimmBackbone("pvt_v2_b0", image_size=64), [32, 64, 160, 256]),
}
rows = pytest.mark.parametrize("name", HIERARCHIES)


def _image(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@rows
def test_maps_have_the_strides_and_channels_that_the_backbone_states(name: str) -> None:
    make, channels = HIERARCHIES[name]
    backbone = make()
    maps = backbone.forward_features(_image())
    assert [one.shape[1] for one in maps] == channels == map_channels(backbone)
    assert [64 // one.shape[2] for one in maps] == list(backbone.spec.strides) == [4, 8, 16, 32]


@rows
def test_stages_give_the_maps_of_the_networks_own_code(name: str) -> None:
    backbone = HIERARCHIES[name][0]()
    maps = stage_maps(backbone)
    assert maps is not None
    for one, other in zip(maps(backbone.normalize(_image())), backbone.forward_features(_image()), strict=True):
        torch.testing.assert_close(one, other)


@rows
def test_stages_share_the_backbones_tensors_and_leave_its_modes_alone(name: str) -> None:
    backbone = HIERARCHIES[name][0]()
    maps = stage_maps(backbone)
    assert maps is not None
    own = {id(parameter) for parameter in backbone.parameters()}
    assert all(id(parameter) in own for parameter in maps.parameters())
    maps.train()
    assert not any(module.training for module in backbone.modules())


@rows
def test_stages_can_be_exported(name: str) -> None:
    backbone = HIERARCHIES[name][0]()
    maps = stage_maps(backbone)
    assert maps is not None
    scripted = torch.jit.script(maps.eval())
    for count in (1, 3):
        image = backbone.normalize(_image(count))
        for one, other in zip(scripted(image), maps(image), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_prepared_backbone_gives_the_same_maps() -> None:
    backbone = TimmBackbone("test_efficientnet", image_size=64)
    prepared = prepare_frozen(backbone)
    for one, other in zip(prepared.forward_features(_image()), backbone.forward_features(_image()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert stage_maps(prepared) is not None


def test_a_clip_resnet_gives_its_four_stages() -> None:
    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    backbone = CLIPBackbone("tiny", config=config)
    assert map_channels(backbone) == [64, 128, 256, 512]
    assert stage_maps(backbone) is not None


def test_probing_a_backbone_that_trains_leaves_its_statistics_and_modes() -> None:
    backbone = ResNetBackbone("resnet18", image_size=64, frozen=False).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    stage_maps(backbone)
    map_channels(backbone)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(module.training for module in backbone.encoder.modules())


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
def test_a_transformer_is_left_to_its_own_code(make: Callable[[], Backbone]) -> None:
    assert stage_maps(make()) is None


@pytest.mark.parametrize("names", [["blocks.1", "layer2"], ["a.b.1", "a.b.2"], ["blocks.1", "blocks.99"]])
def test_stages_must_lie_side_by_side(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="stages"):
        StageMaps(TimmBackbone("test_efficientnet", image_size=64).encoder, names)
