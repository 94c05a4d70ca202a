"""Cached maps: the same training up to float16, kept if they fit, refused if a part before them trains."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from movl_monai.adapters import DVPT
from movl_monai.backbones import map_channels
from movl_monai.engines import MapSet
from movl_monai.errors import ConfigError
from movl_monai.heads import SegmentationHead
from movl_monai.networks import AdaptedSegmenter
from movl_monai.prompts import PadPrompt
from tests.engines.test_segmentation_training import _network, _squares, _trainer
from tests.helpers import IMAGE_SIZE, tiny_swin, tiny_vit


def _maps(network: AdaptedSegmenter, **options: object) -> MapSet:
    return MapSet(_squares(), network, progress=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [None, tiny_swin, lambda: tiny_vit(image_size=IMAGE_SIZE)], ids=["cnn", "swin", "vit"])
def test_a_step_from_cached_maps_gives_the_networks_logits(make: object) -> None:
    network = _network() if make is None else _network(make)  # type: ignore[arg-type]
    network.eval()
    maps = _maps(network)
    index = torch.tensor([3, 0, 7])
    images = maps.dataset.images[index].float() / 255
    cached = maps.behind(network)(maps.rows(index))
    torch.testing.assert_close(cached, network(images), atol=5e-3, rtol=5e-3)


def test_training_from_cached_maps_ends_close_to_training_from_images(tmp_path: Path) -> None:
    plain, cached = _network(), _network()
    _trainer(plain).run()
    _trainer(cached, tokens=_maps(cached, cache_dir=tmp_path)).run()
    for name, value in plain.head.state_dict().items():
        torch.testing.assert_close(cached.head.state_dict()[name], value, atol=0.02, rtol=0.05)
    assert len(list(tmp_path.glob("tokens-*.npy"))) == 1
    again = _network()
    _trainer(again, tokens=_maps(again, cache_dir=tmp_path)).run()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in cached.state_dict().items())


def test_maps_that_do_not_fit_are_announced_and_computed_in_every_step(caplog: pytest.LogCaptureFixture) -> None:
    plain, without = _network(), _network()
    _trainer(plain).run()
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        trainer = _trainer(without, tokens=_maps(without, limit_mb=0.01))
    assert trainer.tokens is None
    assert "the limit is 0.0 MB: they are not kept" in caplog.text
    trainer.run()
    assert all(torch.equal(value, without.state_dict()[name]) for name, value in plain.state_dict().items())


def test_the_size_is_that_of_the_file(caplog: pytest.LogCaptureFixture) -> None:
    maps = _maps(_network())
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        assert maps.fits()
    assert f"take {maps.values.nbytes / 1e6:.1f} MB as float16 for 16 images" in caplog.text


def test_what_trains_before_the_decoder_is_refused() -> None:
    backbone = tiny_swin()
    head = SegmentationHead(map_channels(backbone), 2, width=16)
    adapter = DVPT(backbone, num_prompts=2, bottleneck=4)
    for options, message in (
        ({"adapter": adapter}, "an adapter that trains"),
        ({"prompt": PadPrompt(image_size=IMAGE_SIZE, width=4)}, "a prompt that trains"),
    ):
        with pytest.raises(ConfigError, match=message):
            _maps(AdaptedSegmenter(backbone=backbone, head=head, **options))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the backbone that trains"):
        _maps(_network(frozen=False))
    network = _network()
    with pytest.raises(ConfigError, match="random augmentation"):
        _trainer(network, tokens=_maps(network), cached_plain=False)
