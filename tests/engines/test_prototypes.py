"""Prototypes as the start of appended tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from movl_monai.adapters import DVPT, VPT, LoRA
from movl_monai.engines import start_prompts
from movl_monai.errors import ConfigError
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from tests.helpers import tiny_vit


def _network(adapter: Any, **options: Any) -> AdaptedClassifier:
    backbone = tiny_vit()
    return AdaptedClassifier(backbone=backbone, adapter=adapter(backbone, **options), head=LinearHead(64, 2))


def _images(count: int = 6) -> SimpleNamespace:
    """Images of which half are black and half are white, so that their tokens lie in two groups per place."""
    values = torch.tensor([0, 255], dtype=torch.uint8).repeat(count)[:count]
    return SimpleNamespace(images=values[:, None, None, None].expand(count, 3, 64, 64).contiguous())


@pytest.mark.parametrize("adapter", [DVPT, VPT])
@pytest.mark.parametrize("blocks", [None, [3, 4]])
@pytest.mark.parametrize("start", ["kmeans", "farthest"])
def test_prompts_start_at_centres_of_the_tokens_that_they_will_travel_with(
    adapter: Any, blocks: list[int] | None, start: Any
) -> None:
    network, data = _network(adapter, num_prompts=2, blocks=blocks), _images()
    before = {name: value.clone() for name, value in network.adapter.state_dict().items()}
    start_prompts(network, data, start=start)
    path = network.adapted.path
    with torch.no_grad():
        tokens = path.embed(network.backbone.normalize(data.images.float() / 255))
        for block in list(path.blocks)[: network.adapter.first_block]:
            tokens = block(tokens)
    black, white = (tokens[number::2, 1:].flatten(0, 1) for number in range(2))
    prompts = network.adapter.first_prompts().detach()
    order = torch.cdist(prompts, torch.stack([black.mean(dim=0), white.mean(dim=0)])).argmin(dim=1)
    assert sorted(order.tolist()) == [0, 1], "one for the black images, one for the white"
    if start == "kmeans":
        expected = torch.stack([black.mean(dim=0), white.mean(dim=0)])[order]
        torch.testing.assert_close(prompts, expected, atol=1e-3, rtol=1e-3)
    else:
        distances = (prompts[:, None] - torch.cat([black, white])).square().sum(dim=2)
        assert float(distances.min(dim=1).values.max()) < 1e-8
    changed = {name for name, value in network.adapter.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"start"} or changed == {"prompts.0"}


def test_random_prompts_stay_and_the_same_seed_gives_the_same_prototypes() -> None:
    first, second = (_network(DVPT, num_prompts=2) for _ in range(2))
    before = first.adapter.start.clone()
    start_prompts(first, _images())
    assert torch.equal(first.adapter.start, before)
    for network in (first, second):
        start_prompts(network, _images(), start="kmeans", seed=3)
    assert torch.equal(first.adapter.start, second.adapter.start)


@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        (LoRA, {"start": "kmeans"}, "this network appends none; set prompt_start to 'random'"),
        (DVPT, {"start": "means"}, "prompt_start must be one of random, kmeans, farthest, got 'means'"),
    ],
)
def test_a_start_that_cannot_be_is_refused(adapter: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        start_prompts(_network(adapter), _images(), **options)
