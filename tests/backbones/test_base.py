"""The contract of every backbone: shapes, frozenness, hash, scripting, input check."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from movl_monai.backbones import Backbone, BackboneSpec, ResNetBackbone, TimmBackbone

Build = Callable[..., Backbone]

BUILDS = {
    "resnet18": lambda **options: ResNetBackbone("resnet18", image_size=64, **options),
    "vit": lambda **options: TimmBackbone("test_vit", image_size=64, **options),
    "efficientnet": lambda **options: TimmBackbone("test_efficientnet", image_size=64, **options),
    "convnext": lambda **options: TimmBackbone("test_convnext", image_size=64, **options),
}
every_backbone = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())
with_batchnorm = pytest.mark.parametrize(
    "build", [BUILDS["resnet18"], BUILDS["efficientnet"]], ids=["resnet18", "efficientnet"]
)


def images(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 64, 64)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


@every_backbone
def test_features_and_maps_have_the_shapes_of_the_spec(build: Build) -> None:
    backbone = build()
    assert backbone(images()).shape == (2, backbone.spec.num_features)
    maps = backbone.forward_features(images())
    assert len(maps) == 4
    assert [64 // feature_map.shape[-1] for feature_map in maps] == list(backbone.spec.strides)
    assert all(feature_map.ndim == 4 and feature_map.shape[0] == 2 for feature_map in maps)
    assert list(backbone.spec.strides) == sorted(backbone.spec.strides)


@every_backbone
def test_frozen_backbone_neither_learns_nor_counts_after_network_train(build: Build) -> None:
    network = nn.Sequential(build(), nn.LazyLinear(2))
    before = snapshot(network[0])
    network.train()
    network(images()).sum().backward()
    assert not any(module.training for module in network[0].modules())
    assert not any(parameter.requires_grad for parameter in network[0].parameters())
    assert changed(network[0], before) == set()


@every_backbone
def test_gradient_flows_through_a_frozen_backbone_to_the_image(build: Build) -> None:
    image = images().requires_grad_()
    build()(image)[:, 0].sum().backward()  # not all of them: LayerNorm makes their sum constant
    assert image.grad is not None
    assert image.grad.abs().max() > 0


@with_batchnorm
def test_backbone_that_trains_updates_its_batchnorm(build: Build) -> None:
    backbone = build(frozen=False)
    before = snapshot(backbone)
    backbone.train()
    backbone(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert all("running" in name or "num_batches" in name for name in changed(backbone, before))
    assert changed(backbone, before)


@with_batchnorm
def test_batchnorm_eval_keeps_the_statistics_of_a_backbone_that_trains(build: Build) -> None:
    backbone = build(frozen=False, batchnorm_eval=True)
    before = snapshot(backbone)
    backbone.train()
    backbone(images())
    assert backbone.training
    assert changed(backbone, before) == set()


@with_batchnorm
def test_backbone_fixed_by_a_stage_stays_in_eval_mode_until_it_is_released(build: Build) -> None:
    backbone = build(frozen=False)
    network = nn.Sequential(backbone)
    before = snapshot(backbone)
    backbone.requires_grad_(False)
    network.train()
    backbone(images())
    assert not backbone.training
    assert changed(backbone, before) == set()
    backbone.requires_grad_(True)
    network.train()
    assert backbone.training


def test_fixed_batchnorm_layer_keeps_its_statistics_while_others_train() -> None:
    backbone = ResNetBackbone("resnet18", image_size=64, frozen=False)
    backbone.encoder.layer1.requires_grad_(False)
    before = snapshot(backbone)
    backbone.train()
    backbone(images())
    moved = changed(backbone, before)
    assert any(name.startswith("encoder.layer2") for name in moved)
    assert not any(name.startswith("encoder.layer1") for name in moved)


def test_mean_and_std_are_applied_and_are_in_no_state_dict() -> None:
    backbone = ResNetBackbone("resnet18", image_size=64, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    image = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1) + torch.tensor([0.5, 0.25, 0.125]).view(1, 3, 1, 1)
    torch.testing.assert_close(backbone.normalize(image), torch.ones(1, 3, 1, 1))
    assert not {"mean", "std"} & set(backbone.state_dict())


@every_backbone
def test_hash_is_a_function_of_the_seed_alone(build: Build) -> None:
    state = torch.get_rng_state()
    first = build(seed=1).content_sha256()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert build(seed=1).content_sha256() == first
    assert build(seed=2).content_sha256() != first


def test_hash_survives_forward_copies_and_memory_formats() -> None:
    backbone = ResNetBackbone("resnet18", image_size=64)
    before = backbone.content_sha256()
    backbone.train()
    backbone(images())
    assert backbone.content_sha256() == before
    assert copy.deepcopy(backbone).content_sha256() == before
    assert backbone.to(memory_format=torch.channels_last).content_sha256() == before


@pytest.mark.parametrize("name", ["encoder.conv1.weight", "encoder.bn1.running_mean", "encoder.layer4.1.bn2.bias"])
def test_hash_notices_one_changed_number_even_through_data(name: str) -> None:
    backbone = ResNetBackbone("resnet18", image_size=64)
    before = backbone.content_sha256()
    backbone.state_dict()[name].data.view(-1)[0] += 1e-3
    assert backbone.content_sha256() != before


@pytest.mark.parametrize("options", [{"mean": (0.5, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.5)}])
def test_hash_tells_normalisations_apart(options: dict[str, tuple[float, float, float]]) -> None:
    plain = ResNetBackbone("resnet18", image_size=64)
    assert ResNetBackbone("resnet18", image_size=64, **options).content_sha256() != plain.content_sha256()


@pytest.mark.parametrize("name", ["resnet18", "vit", "efficientnet"])
def test_scripted_backbone_gives_the_eager_features(name: str) -> None:
    backbone, image = BUILDS[name](), images()
    torch.testing.assert_close(torch.jit.script(backbone)(image), backbone(image))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet"])  # timm's ViT warns by itself while it is traced
def test_traced_backbone_gives_the_eager_features_without_a_warning(name: str) -> None:
    backbone, image = BUILDS[name](), images()
    traced = torch.jit.trace(backbone, images(1), check_trace=False)
    torch.testing.assert_close(traced(image), backbone(image))


def test_uint8_images_are_refused() -> None:
    with pytest.raises(TypeError, match=r"image must be floating .* got torch.uint8; .* / 255"):
        BUILDS["efficientnet"]()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (3, 64, 64), (1, 64, 64, 3)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\), got \("):
        BUILDS["efficientnet"]()(torch.zeros(shape))


def test_transformer_refuses_another_image_size_than_its_own() -> None:
    with pytest.raises(ValueError, match="built for images of 64 x 64 pixels, got 80 x 64; resize"):
        BUILDS["vit"]()(torch.zeros(1, 3, 80, 64))


@pytest.mark.parametrize("value", [(0.5, 0.5), (0.0, 1.0, 1.0)])
def test_spec_refuses_a_std_that_cannot_divide(value: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="std must be three numbers > 0"):
        BackboneSpec(name="any", image_size=8, mean=(0, 0, 0), std=value, num_features=1)  # type: ignore[arg-type]


def test_base_class_says_that_it_has_no_maps() -> None:
    spec = BackboneSpec(name="mean", image_size=2, mean=(0, 0, 0), std=(1, 1, 1), num_features=3)
    backbone = Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), spec)
    with pytest.raises(NotImplementedError, match="mean gives pooled features only"):
        backbone.forward_features(images())
