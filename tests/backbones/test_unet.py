"""The UNet from scratch is MONAI's, trains whole, and cannot be frozen."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from movl_monai.backbones import UNetBackbone
from movl_monai.errors import ConfigError
from movl_monai.heads import FirstMapHead
from movl_monai.networks import AdaptedSegmenter

FEATURES = [4, 4, 4, 4, 4, 4]


def _network(seed: int = 0) -> AdaptedSegmenter:
    unet = UNetBackbone(3, image_size=32, features=FEATURES, seed=seed)
    return AdaptedSegmenter(backbone=unet, head=FirstMapHead(3), class_names=["background", "a", "b"])


def test_its_logits_are_those_of_monais_network_on_normalised_images() -> None:
    network = _network().eval()
    plain = BasicUNet(spatial_dims=2, in_channels=3, out_channels=3, features=tuple(FEATURES)).eval()
    plain.load_state_dict(network.backbone.encoder.state_dict())
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(image), plain(network.backbone.normalize(image)))
    torch.testing.assert_close(network.backbone(image), network(image).mean(dim=(2, 3)))


def test_it_trains_whole_is_saved_whole_and_its_start_follows_the_seed() -> None:
    network = _network().train()
    network(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    saved = network.state_dict()
    fresh = _network(seed=1)
    assert not torch.equal(next(fresh.parameters()), next(network.parameters()))
    fresh.load_state_dict(saved)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(fresh.eval()(image), network.eval()(image))
    assert torch.equal(next(_network().parameters()), next(_network().parameters()))


@pytest.mark.parametrize("size", [32, 37, 140])
def test_images_of_any_size_from_32_get_a_map_of_their_size(size: int) -> None:
    unet = UNetBackbone(3, image_size=size, features=FEATURES).eval()
    assert [one.shape for one in unet.forward_features(torch.rand(2, 3, size, size))] == [(2, 3, size, size)]


@pytest.mark.parametrize("size", [32, 37])
def test_torchscript_predicts_the_same(size: int) -> None:
    network = _network().eval()
    image = torch.rand(2, 3, size, size)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"frozen": True}, "must train"), ({"image_size": 31}, "32 or more"), ({"features": [4, 4]}, "six features")],
)
def test_settings_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UNetBackbone(2, **{"image_size": 32, "features": FEATURES, **options})


def test_a_head_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="background counts"):
        FirstMapHead(1)
