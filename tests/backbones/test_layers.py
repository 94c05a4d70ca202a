"""Features of several layers against a loop over forward hooks; their name, hash, weights and cost; bad numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from movl_monai.backbones import Backbone, BackboneSpec, ResNetBackbone, TimmBackbone, prepare_frozen
from movl_monai.backbones.layers import IntermediateMaps, StageLayers, read_layers
from movl_monai.engines import FeatureSet
from movl_monai.errors import ConfigError
from tests.helpers import memory_dataset, tiny_clip, tiny_swin, tiny_vit

Make = Callable[..., Backbone]

# builder, the encoder's modules that end a layer, tokens in front of the image's (None: a map), whether the first of
# them is a class token
ROWS: dict[str, tuple[Make, Callable[[Any], list[Any]], int | None, bool]] = {
    "vit": (tiny_vit, lambda e: list(e.blocks), 1, True),
    "vit_registers": (
        lambda **o: TimmBackbone("test_vit", image_size=64, model_options={"reg_tokens": 2}, **o),
        lambda e: list(e.blocks),
        3,
        True,
    ),
    "vit_without_class_token": (
        lambda **o: TimmBackbone(
            "test_vit", image_size=64, model_options={"class_token": False, "global_pool": "avg"}, **o
        ),
        lambda e: list(e.blocks),
        0,
        False,
    ),
    "clip_vit": (tiny_clip, lambda e: list(e.transformer.resblocks), 1, True),
    "swin": (tiny_swin, lambda e: list(e.layers), None, False),
    "efficientnet": (
        lambda **o: TimmBackbone("test_efficientnet", image_size=64, **o),
        lambda e: list(e.blocks)[1:],  # its first stage is not among the four of `forward_features`
        None,
        False,
    ),
    "convnext": (lambda **o: TimmBackbone("test_convnext", image_size=64, **o), lambda e: list(e.stages), None, False),
    "resnet18": (
        lambda **o: ResNetBackbone("resnet18", image_size=64, **o),
        lambda e: [e.layer1, e.layer2, e.layer3, e.layer4],
        None,
        False,
    ),
}
rows = pytest.mark.parametrize("row", ROWS)


def _images(backbone: Backbone, count: int = 2) -> torch.Tensor:
    size = backbone.spec.image_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def _by_hooks(row: str, numbers: list[int] | None) -> torch.Tensor:
    """Compute the formula over the outputs that forward hooks see in the backbone without the option."""
    make, modules, prefix, class_token = ROWS[row]
    backbone = make()
    outputs: list[torch.Tensor] = []
    layers = modules(backbone.encoder)
    for number in range(len(layers)) if numbers is None else numbers:
        layers[number].register_forward_hook(lambda _m, _a, output: outputs.append(output))
    backbone(_images(backbone))
    parts: list[torch.Tensor] = []
    for output in outputs:
        if prefix is not None:
            parts += [output[:, 0]] if class_token else []
            parts.append(output[:, prefix:].mean(dim=1))
        else:
            parts.append(output.mean(dim=(1, 2) if row == "swin" else (2, 3)))
    return torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts], dim=1)


@rows
@pytest.mark.parametrize("numbers", [None, [0, 1]], ids=["all", "two"])
def test_features_are_those_of_a_loop_over_hooks(row: str, numbers: list[int] | None) -> None:
    backbone = ROWS[row][0](layers="all" if numbers is None else numbers[::-1])
    features, expected = backbone(_images(backbone)), _by_hooks(row, numbers)
    assert features.shape == (2, backbone.spec.num_features)
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(prepare_frozen(backbone)(_images(backbone)), expected, atol=1e-5, rtol=1e-4)


@rows
def test_the_layers_change_name_and_hash_and_no_tensor(row: str) -> None:
    make, modules, _, _ = ROWS[row]
    last, every, some = make(), make(layers="all"), make(layers=[1, 0])
    state, other = last.state_dict(), every.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert [name for name, _ in last.named_parameters()] == [name for name, _ in every.named_parameters()]
    assert some.load_state_dict(state).missing_keys == []
    assert (last.layers, every.layers, some.layers) == ("last", "all", "all" if row == "swin" else [0, 1])
    assert every.spec.name == f"{last.spec.name} (layers=all)"
    count = len(modules(last.encoder))
    assert make(layers=list(range(count))).content_sha256() == every.content_sha256() != last.content_sha256()
    data = memory_dataset(4, size=last.spec.image_size)
    keys = {FeatureSet(data, prepare_frozen(one)).key() for one in (last, every, some)}
    assert len(keys) == (2 if row == "swin" else 3)


@rows
def test_with_layers_shares_the_tensors(row: str) -> None:
    make = ROWS[row][0]
    backbone, every = make(), make(layers="all")
    twin = backbone.with_layers("all")
    assert (twin.spec, twin.layers, twin.frozen) == (every.spec, "all", True)
    assert torch.equal(twin(_images(twin)), every(_images(every)))
    assert all(one is other for one, other in zip(backbone.parameters(), twin.parameters(), strict=True))
    assert backbone.layers == "last"
    assert twin.with_layers("last").content_sha256() == backbone.content_sha256()


def test_last_is_what_the_encoder_gives_to_the_last_bit() -> None:
    backbone = tiny_vit(layers="last")
    image = _images(backbone)
    assert torch.equal(backbone(image), backbone.encoder(backbone.normalize(image)))
    assert backbone.spec.name == "test_vit"
    assert backbone.layer_reader is None


@pytest.mark.parametrize("layers", ["all", [2]])
def test_every_block_runs_once_and_none_behind_the_last_that_is_read(layers: Any) -> None:
    backbone = tiny_vit(layers=layers)
    ran: list[int] = []
    for number, block in enumerate(backbone.encoder.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    backbone(_images(backbone))
    assert ran == list(range(6 if layers == "all" else 3))


@pytest.mark.parametrize("row", ["vit", "resnet18"])
def test_a_backbone_that_trains_gets_gradients_through_every_layer(row: str) -> None:
    make, modules, _, _ = ROWS[row]
    backbone = make(layers="all", frozen=False).train()
    backbone(_images(backbone)).square().cumsum(dim=1).sum().backward()
    for layer in modules(backbone.encoder):
        assert all(parameter.grad is not None for parameter in layer.parameters())
    before = backbone.content_sha256()
    backbone(_images(backbone))
    assert (backbone.content_sha256() != before) is (row == "resnet18")  # the running statistics are the encoder's own


@pytest.mark.parametrize("layers", ["first", [], [6], [-1], [1, 1], [True], ["1"], 3, None, [1.0]])
def test_layers_that_do_not_exist_are_refused(layers: Any) -> None:
    with pytest.raises(ConfigError, match=r"layers must be 'last', 'all' or .* 0 to 5 \(test_vit has 6 blocks\), got"):
        tiny_vit(layers=layers)


def test_stages_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"from 0 to 3 \(resnet18 has 4 stages\), got \[4\]"):
        ResNetBackbone("resnet18", layers=[4])


def test_a_network_without_known_layers_is_refused() -> None:
    spec = BackboneSpec(name="mean", image_size=2, mean=(0.5,) * 3, std=(0.5,) * 3, num_features=3)
    with pytest.raises(ConfigError, match="mean can be read at its end only.*set layers to 'last'"):
        Backbone(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), spec, layers="all")
    with pytest.raises(ConfigError, match="eva02_tiny_patch14_224 can be read at its end only"):
        TimmBackbone("eva02_tiny_patch14_224", image_size=56, layers="all")


def test_a_hierarchy_that_is_no_sequence_of_stages_is_read_by_its_own_code() -> None:
    sizes = {"window_size": 2, "embed_dim": 24, "depths": (1, 1, 1, 1)}
    plain = TimmBackbone("swinv2_tiny_window8_256", image_size=64, model_options=sizes)  # its stages give (B, H, W, C)
    reader = read_layers(plain, [1, 3])
    image = plain.normalize(_images(plain))
    maps = plain.forward_features(_images(plain))
    expected = torch.cat([(one := maps[n].mean(dim=(2, 3))) / one.norm(dim=1, keepdim=True) for n in (1, 3)], dim=1)
    assert isinstance(reader, StageLayers)
    assert isinstance(reader.maps, IntermediateMaps)
    torch.testing.assert_close(reader(image), expected)
