"""Prepared backbones: the same features, the same hash, fewer layers."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from movl_monai.backbones import (
    Backbone,
    BackboneSpec,
    ResNetBackbone,
    TimmBackbone,
    embedded_efficientnet_lite0,
    fold_batchnorm,
    prepare_frozen,
)

SPEC = BackboneSpec(name="small", image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3, num_features=4)


def unsettle(backbone: Backbone) -> Backbone:
    """Give every BatchNorm layer statistics and weights as training would leave them."""
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.3)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
    return backbone


def count_batchnorm(module: nn.Module) -> int:
    return sum(isinstance(child, _BatchNorm) for child in module.modules())


@pytest.fixture(params=["resnet18", "resnet50_v1", "test_efficientnet", "test_resnet", "mobilenetv3_small_050"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    if request.param == "resnet18":
        return unsettle(ResNetBackbone("resnet18", image_size=64))
    if request.param == "resnet50_v1":
        return unsettle(ResNetBackbone("resnet50", strides="v1", image_size=64))
    return unsettle(TimmBackbone(request.param, image_size=64))


def test_prepared_backbone_gives_the_same_features_and_maps_without_batchnorm(backbone: Backbone) -> None:
    prepared, image = prepare_frozen(backbone), torch.rand(2, 3, 64, 64)
    assert count_batchnorm(backbone) > 10
    assert count_batchnorm(prepared) == 0
    for one, other in zip(
        [prepared(image), *prepared.forward_features(image)],
        [backbone(image), *backbone.forward_features(image)],
        strict=True,
    ):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_prepared_backbone_gives_the_same_gradient_at_the_image(backbone: Backbone) -> None:
    gradients = []
    for module in (backbone, prepare_frozen(backbone)):
        image = torch.full((1, 3, 64, 64), 0.3).add_(torch.linspace(0, 0.5, 64)).requires_grad_()
        module(image).sum().backward()
        gradients.append(image.grad)
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-3 * gradients[0].abs().max()


def test_prepared_backbone_keeps_hash_spec_and_frozenness_and_leaves_the_original_alone(backbone: Backbone) -> None:
    sha256, layers = backbone.content_sha256(), count_batchnorm(backbone)
    prepared = prepare_frozen(backbone)
    assert backbone.content_sha256() == prepared.content_sha256() == sha256
    assert count_batchnorm(backbone) == layers
    assert prepared.spec == backbone.spec
    nn.Sequential(prepared).train()
    assert not any(module.training for module in prepared.modules())
    assert not any(parameter.requires_grad for parameter in prepared.parameters())


def test_changed_prepared_backbone_no_longer_stands_for_the_original() -> None:
    backbone = ResNetBackbone("resnet18", image_size=64)
    prepared = prepare_frozen(backbone)
    prepared.encoder.conv1.weight.data[0, 0, 0, 0] += 1
    assert prepared.content_sha256() != backbone.content_sha256()


def test_each_part_of_the_preparation_can_be_left_out() -> None:
    backbone = unsettle(ResNetBackbone("resnet18", image_size=64))
    plain = prepare_frozen(backbone, fold=False, channels_last=False)
    assert count_batchnorm(plain) == count_batchnorm(backbone)
    weight = prepare_frozen(backbone, fold=False).encoder.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert plain.encoder.layer1[0].conv1.weight.is_contiguous()


def test_network_without_batchnorm_can_be_prepared() -> None:
    backbone, image = TimmBackbone("test_vit", image_size=64), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(prepare_frozen(backbone)(image), backbone(image))


def test_prepared_backbone_can_be_scripted() -> None:
    prepared, image = prepare_frozen(TimmBackbone("test_efficientnet", image_size=64)), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(torch.jit.script(prepared)(image), prepared(image))


@pytest.mark.parametrize("prepare", [prepare_frozen, fold_batchnorm])
def test_backbone_that_trains_is_refused(prepare: object) -> None:
    with pytest.raises(ValueError, match=r"Only a frozen backbone can be prepared, resnet18 trains \(frozen=False\)"):
        prepare(ResNetBackbone("resnet18", image_size=64, frozen=False))  # type: ignore[operator]


class Reuse(nn.Module):
    """The convolution's output goes through BatchNorm and past it, so folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return (self.bn(x) + 2 * x).mean((2, 3))


class Shared(Reuse):
    """The convolution runs twice, before BatchNorm and alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.bn(self.conv(x)) + self.conv(x.flip(3))).mean((2, 3))


def test_wrong_folding_is_noticed_logged_and_undone(caplog: pytest.LogCaptureFixture) -> None:
    backbone = unsettle(Backbone(Reuse(), SPEC))
    with caplog.at_level(logging.WARNING):
        prepared = fold_batchnorm(backbone)
    assert "small: folding BatchNorm changed the features" in caplog.text
    assert count_batchnorm(prepared) == 1
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(prepared(image), backbone(image))
    assert prepared.content_sha256() == backbone.content_sha256()


def test_convolution_that_runs_twice_is_not_folded(caplog: pytest.LogCaptureFixture) -> None:
    backbone = unsettle(Backbone(Shared(), SPEC))
    with caplog.at_level(logging.WARNING):
        assert count_batchnorm(fold_batchnorm(backbone)) == 1
    assert caplog.text == ""


def test_real_lite0_weights_fold_completely() -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0", weights=embedded_efficientnet_lite0())
    prepared, image = prepare_frozen(backbone), torch.rand(1, 3, 64, 64)
    assert count_batchnorm(prepared) == 0
    torch.testing.assert_close(prepared(image), backbone(image), atol=1e-3, rtol=1e-3)
