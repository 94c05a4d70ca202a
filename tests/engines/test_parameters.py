"""Optimiser groups follow the parts of the network."""

from __future__ import annotations

import pytest
import torch

from movl_monai.engines import optimizer_groups, set_trainable_parts, unwrap
from movl_monai.errors import ConfigError
from movl_monai.heads import LinearHead, QueryHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone


def _network(*, frozen: bool) -> AdaptedClassifier:
    backbone = tiny_backbone(frozen=frozen)
    head = LinearHead(backbone.spec.num_features, 2)
    return AdaptedClassifier(backbone=backbone, prompt=PadPrompt(image_size=IMAGE_SIZE, width=4), head=head)


def test_a_frozen_backbone_has_no_group_and_one_that_trains_has() -> None:
    assert [group["name"] for group in optimizer_groups(_network(frozen=True))] == ["prompt", "head"]
    assert [group["name"] for group in optimizer_groups(_network(frozen=False))] == ["prompt", "backbone", "head"]


def test_the_head_can_have_its_own_weight_decay() -> None:
    groups = optimizer_groups(_network(frozen=True), head_weight_decay=0.5)
    assert [group.get("weight_decay") for group in groups] == [None, 0.5]


def test_only_the_named_parts_require_gradients() -> None:
    network = _network(frozen=False)
    optimizer = torch.optim.SGD(optimizer_groups(network), lr=1.0)
    set_trainable_parts(network, optimizer, {"head"})
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"head"}
    set_trainable_parts(network, optimizer, {"prompt", "backbone"})
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"prompt", "backbone"}
    with pytest.raises(ConfigError, match=r"trains \['adapter'\], but this network can only train"):
        set_trainable_parts(network, optimizer, {"adapter"})


def test_unwrap_finds_the_network_inside_wrappers() -> None:
    inner = torch.nn.Linear(1, 1)
    assert unwrap(torch.nn.DataParallel(inner)) is inner
    assert unwrap(inner) is inner


def test_layer_decay_lowers_the_rate_block_by_block_towards_the_input() -> None:
    network = _network(frozen=False)
    groups = [group for group in optimizer_groups(network, layer_decay=0.5) if group["name"] == "backbone"]
    scales = [group["lr_scale"] for group in groups]
    assert scales == sorted(scales)
    assert scales[-1] == 1.0
    assert scales[0] == 0.5 ** (len(groups) - 1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.backbone.parameters())
    first = next(network.backbone.parameters())
    assert any(parameter is first for parameter in groups[0]["params"])
    with pytest.raises(ConfigError, match="layer_decay must be in"):
        optimizer_groups(network, layer_decay=0.0)


def test_the_probe_inside_a_query_head_has_its_own_rate() -> None:
    network = _network(frozen=True)
    network.head = QueryHead(network.head.num_features, 2, token_width=8, num_queries=2)
    queries, probe = optimizer_groups(network, linear_lr_scale=0.1, head_weight_decay=0.5)[-2:]
    assert [group["name"] for group in (queries, probe)] == ["head", "head"]
    assert {id(one) for one in probe["params"]} == {id(one) for one in network.head.linear.parameters()}
    assert len(queries["params"]) + len(probe["params"]) == len(list(network.head.parameters()))
    assert (queries["lr_scale"], probe["lr_scale"]) == (1.0, 0.1)
    assert queries["weight_decay"] == probe["weight_decay"] == 0.5
    assert len(optimizer_groups(network)) == len(optimizer_groups(network, linear_lr_scale=0.1)) - 1
    with pytest.raises(ConfigError, match="linear_lr_scale must be > 0, got 0"):
        optimizer_groups(network, linear_lr_scale=0)
