"""The steps of a Transformer give the features of its encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch

from movl_monai.backbones import Backbone, TimmBackbone, share_tensors
from movl_monai.errors import ConfigError
from tests.helpers import tiny_clip, tiny_swin, tiny_vit

PLAIN = ["test_vit", "test_vit2", "test_vit3", "test_vit4", "deit_tiny_distilled_patch16_224"]
TOWERS: list[Callable[[], Backbone]] = [
    *(lambda name=name: TimmBackbone(name, image_size=32) for name in PLAIN),
    lambda: TimmBackbone("test_vit", image_size=32, model_options={"global_pool": "avg"}),
    lambda: TimmBackbone("vit_small_patch14_reg4_dinov2", image_size=28, model_options={"depth": 2, "embed_dim": 48}),
    tiny_swin,
    tiny_clip,
    lambda: tiny_clip(projection=False),
]


@pytest.mark.parametrize("make", TOWERS)
def test_steps_give_the_features_of_the_encoder(make: Callable[[], Backbone]) -> None:
    backbone = make()
    image = torch.rand(2, 3, backbone.spec.image_size, backbone.spec.image_size)
    with torch.no_grad():
        torch.testing.assert_close(backbone.token_path()(backbone.normalize(image)), backbone(image), atol=0, rtol=0)


@pytest.mark.parametrize("make", TOWERS)
def test_opened_attention_gives_the_same_features(make: Callable[[], Backbone]) -> None:
    backbone = make()
    image = torch.rand(2, 3, backbone.spec.image_size, backbone.spec.image_size)
    path = backbone.token_path()
    path.open_attention()
    with torch.no_grad():
        torch.testing.assert_close(path(backbone.normalize(image)), backbone(image), atol=2e-6, rtol=1e-5)
    own = {id(parameter) for parameter in backbone.parameters()}
    assert {id(parameter) for parameter in path.parameters()} == own


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin, tiny_clip], ids=["vit", "swin", "clip"])
def test_the_layout_says_what_flows_through_the_blocks(make: Callable[[], Backbone]) -> None:
    backbone = make()
    path = backbone.token_path()
    tokens = path.embed(torch.rand(1, 3, backbone.spec.image_size, backbone.spec.image_size))
    for number, (entry, block) in enumerate(zip(path.entries, path.blocks, strict=True)):
        tokens, (height, width) = entry(tokens), path.layout.grids[number]
        sizes = {"sequence": (height * width + path.layout.num_prefix,), "map": (height, width)}
        assert tuple(tokens.shape[1:]) == (*sizes[path.layout.kind], path.layout.widths[number])
        tokens = block(tokens)
    assert path.pool(tokens).shape == (1, path.layout.num_features)


def test_the_stages_of_a_hierarchy_are_those_of_its_widths() -> None:
    layout = tiny_swin().token_path().layout
    assert (layout.stages, layout.widths) == ((0, 0, 1, 1, 1), (16, 16, 32, 32, 32))


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip], ids=["vit", "clip"])
def test_a_single_token_is_read_as_the_class_token_is(make: Callable[[], Backbone]) -> None:
    backbone = make()
    path = backbone.token_path()
    tokens = torch.randn(2, 17, path.layout.widths[0])
    torch.testing.assert_close(path.read(tokens[:, :1])[:, 0], path.pool(tokens))


@pytest.mark.parametrize(
    "name", ["test_vit_relpos", "eva02_tiny_patch14_224", "swinv2_tiny_window8_256", "test_resnet"]
)
def test_what_the_loop_does_not_know_is_refused(name: str) -> None:
    if name not in timm.list_models():
        pytest.fail(f"timm has no {name} any more; take another one")
    with pytest.raises(ConfigError, match=f"{name} .* hosts no adapters"):
        TimmBackbone(name).token_path()


def test_shared_tensors_stay_shared_when_their_values_change() -> None:
    layer = torch.nn.Linear(2, 2)
    twin = share_tensors(layer)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    assert torch.equal(twin.weight, layer.weight)
    assert twin.weight is layer.weight
