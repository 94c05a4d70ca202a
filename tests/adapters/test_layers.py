"""LoRA, SSF and BitFit: their equations, the layers they change, and merging, which leaves the outputs unchanged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from movl_monai.adapters import SSF, BitFit, LayerAdapter, LoRA
from movl_monai.backbones import Backbone
from movl_monai.errors import ConfigError
from movl_monai.networks.adapted import AdaptedPath
from tests.adapters.reference import perturb
from tests.helpers import tiny_clip, tiny_swin, tiny_vit

towers = pytest.mark.parametrize("make", [tiny_vit, tiny_swin, tiny_clip], ids=["vit", "swin", "clip"])
adapters = pytest.mark.parametrize(
    "adapt",
    [
        lambda b: LoRA(b, rank=2),
        lambda b: LoRA(b, rank=3, alpha=2, targets=["k", "proj"]),
        SSF,
        BitFit,
        lambda b: SSF(b, blocks=[1, 2]),
    ],
    ids=["lora", "lora_other_targets", "ssf", "bitfit", "ssf_two_blocks"],
)


def _image(backbone: Backbone) -> torch.Tensor:
    return torch.randn(2, 3, backbone.spec.image_size, backbone.spec.image_size)


@towers
@adapters
def test_merged_weights_give_the_adapted_features(
    make: Callable[[], Backbone], adapt: Callable[[Backbone], LayerAdapter]
) -> None:
    backbone = make()
    adapter, image = adapt(backbone), _image(backbone)
    perturb(adapter, scale=0.1)
    before = backbone.content_sha256()
    with torch.no_grad():
        adapted, plain = AdaptedPath(backbone, adapter)(image), backbone.encoder(image)
        merged = adapter.merged(backbone)
        error = (merged.encoder(image) - adapted).abs().max() / adapted.abs().max()
        moved = (plain - adapted).abs().max() / adapted.abs().max()
    assert error <= 1e-5
    assert moved > 1e-3, "the adapter does nothing, so that merging proves nothing"
    assert backbone.content_sha256() == before, "merging must not touch the original"
    assert merged.content_sha256() != before
    assert merged.frozen
    assert not any(parameter.requires_grad for parameter in merged.parameters())


@towers
@adapters
def test_every_parameter_is_reached_by_the_gradient(
    make: Callable[[], Backbone], adapt: Callable[[Backbone], LayerAdapter]
) -> None:
    backbone = make()
    adapter = adapt(backbone)
    perturb(adapter, scale=0.1)
    AdaptedPath(backbone, adapter)(_image(backbone)).square().sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_lora_adds_the_low_rank_product_to_queries_and_values() -> None:
    backbone = tiny_vit()
    adapter = LoRA(backbone, rank=2, alpha=6)
    perturb(adapter)
    change = adapter.changes["blocks_1_attn_qkv"]
    x, frozen = torch.randn(5, 64), backbone.encoder.blocks[1].attn.qkv
    with torch.no_grad():
        difference = AdaptedPath(backbone, adapter).path.blocks[1].attn.qkv(x) - frozen(x)
        query, key, value = difference.split(64, dim=1)
        a_query, a_value = change.down.split(2)
        torch.testing.assert_close(query, 3 * (x @ a_query.T @ change.up[0].T), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(value, 3 * (x @ a_value.T @ change.up[1].T), atol=1e-5, rtol=1e-4)
    assert key.abs().max() < 1e-6


def test_ssf_scales_and_shifts_the_output_of_a_layer_and_of_the_patch_embedding() -> None:
    backbone = tiny_vit()
    adapter = SSF(backbone)
    perturb(adapter)
    path = AdaptedPath(backbone, adapter).path
    change, image = adapter.changes["patch_embed_proj"], _image(backbone)
    with torch.no_grad():
        output = backbone.encoder.patch_embed.proj(image)
        torch.testing.assert_close(path.encoder.patch_embed.proj(image), output * change.scale + change.shift)
    kinds = (nn.Linear, nn.LayerNorm, nn.Conv2d)
    assert len(adapter.changes) == sum(isinstance(layer, kinds) for layer in backbone.encoder.modules())


@towers
def test_bitfit_has_one_number_per_bias_of_a_layer(make: Callable[[], Backbone]) -> None:
    backbone = make()
    biases = sum(p.numel() for name, p in backbone.named_parameters() if name.endswith("bias"))
    assert BitFit(backbone).num_parameters() == biases


def test_bitfit_trains_the_bias_as_training_it_in_place_does() -> None:
    backbone, trained = tiny_vit(), tiny_vit(frozen=False)
    adapter, image = BitFit(backbone), _image(backbone)
    AdaptedPath(backbone, adapter)(image).square().sum().backward()
    trained.eval()
    trained.encoder(image).square().sum().backward()
    torch.testing.assert_close(
        adapter.changes["blocks_2_mlp_fc1"].bias.grad, trained.encoder.blocks[2].mlp.fc1.bias.grad, rtol=1e-4, atol=1e-5
    )


def test_in_chosen_blocks_nothing_around_them_is_changed() -> None:
    names = SSF(tiny_swin(), blocks=[2, 3]).changes
    # patch merging in front of block 2 belongs to it; patch embedding and last norm to none
    assert {name.rpartition("_blocks")[0] or name for name in names} == {
        "layers_1",
        "layers_1_downsample_norm",
        "layers_1_downsample_reduction",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be between 1 and the width 64, got 0"),
        ({"rank": 65}, "rank must be between 1 and the width 64, got 65"),
        ({"alpha": 0}, "alpha must be > 0"),
        ({"targets": ["query"]}, "targets must be different ones"),
        ({"targets": []}, "targets must be different ones"),
    ],
)
def test_bad_options_of_lora_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoRA(tiny_vit(), **options)  # type: ignore[arg-type]
