"""ResNets of torchvision: strides, heads, real weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from movl_monai.backbones import ResNetBackbone, WeightsFile
from movl_monai.errors import WeightsError

CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)


def test_features_are_the_input_of_torchvisions_classifier(tmp_path: Path) -> None:
    model = models.resnet18(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    backbone = ResNetBackbone("resnet18", weights=tmp_path / "w.pt", image_size=64)
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.fc(backbone(image)), model(backbone.normalize(image)))


def test_pooled_features_are_the_mean_of_the_last_map() -> None:
    backbone, image = ResNetBackbone("resnet18", image_size=64), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(backbone.forward_features(image)[-1].mean((2, 3)), backbone(image))


@pytest.mark.parametrize("strides", ["v1", "v1.5"])
def test_stride_is_in_the_first_convolution_of_v1_and_in_the_second_of_v15(strides: str) -> None:
    backbone = ResNetBackbone("resnet50", strides=strides, image_size=64)  # type: ignore[arg-type]
    first, second = ((2, 2), (1, 1)) if strides == "v1" else ((1, 1), (2, 2))
    for layer in (backbone.encoder.layer2, backbone.encoder.layer3, backbone.encoder.layer4):
        assert (layer[0].conv1.stride, layer[0].conv2.stride) == (first, second)
        assert {block.conv2.stride for block in layer[1:]} == {(1, 1)}
    assert backbone.encoder.layer1[0].conv1.stride == backbone.encoder.layer1[0].conv2.stride == (1, 1)
    assert [tuple(m.shape[1:]) for m in backbone.forward_features(torch.rand(1, 3, 64, 64))] == [
        (256, 16, 16),
        (512, 8, 8),
        (1024, 4, 4),
        (2048, 2, 2),
    ]


def test_strides_change_features_name_and_hash_but_no_tensor() -> None:
    old, new = (ResNetBackbone("resnet50", strides=s, image_size=64) for s in ("v1", "v1.5"))  # type: ignore[arg-type]
    image = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(old(image), new(image), rtol=0.01)
    assert (old.spec.name, new.spec.name) == ("resnet50_v1", "resnet50")
    assert old.content_sha256() != new.content_sha256()
    assert all(torch.equal(a, b) for a, b in zip(old.state_dict().values(), new.state_dict().values(), strict=True))


def test_strides_make_no_difference_to_basic_blocks() -> None:
    old, new = (ResNetBackbone("resnet18", strides=s, image_size=64) for s in ("v1", "v1.5"))  # type: ignore[arg-type]
    assert old.spec == new.spec
    assert old.content_sha256() == new.content_sha256()


def test_file_of_another_resnet_is_refused_with_the_differences(tmp_path: Path) -> None:
    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"do not fit ResNet: \d+ unexpected \(layer1\.2\.conv1\.weight"):
        ResNetBackbone("resnet18", weights=WeightsFile(tmp_path / "w.pt"))


def test_scripted_network_can_use_the_maps() -> None:
    class LastMap(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = ResNetBackbone("resnet18", image_size=64)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.backbone.forward_features(image)[3]

    network, image = LastMap(), torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "resnet51"}, r"arch must be one of resnet18, .* got 'resnet51'"),
        ({"strides": "v2"}, r"strides must be 'v1\.5' .* got 'v2'"),
        ({"strides": "v1", "weights": "hub"}, r"torchvision's weights are made for strides='v1\.5'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetBackbone(**options)  # type: ignore[arg-type]


def test_real_v1_weights_give_the_recorded_features(test_data: Path) -> None:
    weights = WeightsFile(test_data / "weights" / "resnet50_v1_imagenet.safetensors", mean=CAFFE_MEAN, std=CAFFE_STD)
    ramp = torch.linspace(0, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.view(64, 1).expand(64, 64), 1 - ramp.expand(64, 64)])[None]
    features = ResNetBackbone("resnet50", weights=weights, strides="v1", image_size=64)(image)[0]
    recorded = torch.tensor([0.144039, 0.0, 0.0, 0.0, 1.169626, 0.207069])
    torch.testing.assert_close(features[:6], recorded, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(features.mean(), torch.tensor(0.572995), atol=1e-3, rtol=1e-3)
    assert features.argmax() == 1138
