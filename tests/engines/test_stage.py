"""Stages set the parts that train, the learning rates and the number of epochs."""

from __future__ import annotations

import math

import pytest
import torch

from movl_monai.engines import Stage, optimizer_groups, set_trainable_parts, stage_starts, total_epochs, unwrap
from movl_monai.errors import ConfigError
from movl_monai.heads import LinearHead, QueryHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone


def test_cosine_schedule_goes_from_one_to_zero_and_is_one_half_in_the_middle() -> None:
    stage = Stage(epochs=10, lr={"head": 1.0})
    assert stage.lr_factor(0, steps_per_epoch=4) == 1.0
    assert stage.lr_factor(20, steps_per_epoch=4) == pytest.approx(0.5)
    assert stage.lr_factor(40, steps_per_epoch=4) == pytest.approx(0.0)
    assert stage.lr_factor(10, steps_per_epoch=4) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_warmup_rises_linearly_from_its_first_step_and_then_the_cosine_begins() -> None:
    stage = Stage(epochs=4, lr={"head": 1.0}, warmup_epochs=1)
    assert [stage.lr_factor(step, steps_per_epoch=4) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_constant_schedule_stays_at_one() -> None:
    stage = Stage(epochs=2, lr={"head": 1.0}, schedule="constant")
    assert {stage.lr_factor(step, steps_per_epoch=3) for step in range(6)} == {1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "must be >= 0"),
        ({"epochs": 1, "lr": {"head": -1.0}}, "must be >= 0"),
        ({"epochs": 0}, "does nothing"),
        ({"epochs": 3}, "no part with a learning rate above 0"),
        ({"epochs": 2, "lr": {"head": 1.0}, "warmup_epochs": 2}, "warmup_epochs must be in"),
        ({"epochs": 2, "lr": {"head": 1.0}, "schedule": "linear"}, "schedule must be"),
    ],
)
def test_stage_refuses_impossible_settings(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stage(**arguments)


def test_a_part_with_a_rate_of_zero_is_as_one_that_is_not_named() -> None:
    assert Stage(epochs=1, lr={"adapter": 0, "head": 1.0}) == Stage(epochs=1, lr={"head": 1.0})


def test_stages_begin_where_the_one_before_ends() -> None:
    stages = [
        Stage(epochs=0, solve_head=True),
        Stage(epochs=3, lr={"prompt": 1.0}),
        Stage(epochs=2, lr={"head": 1.0}),
    ]
    assert stage_starts(stages) == [0, 0, 3]
    assert total_epochs(stages) == 5


def test_a_strategy_must_not_be_empty_or_end_with_a_solved_probe_behind_trained_epochs() -> None:
    with pytest.raises(ConfigError, match="at least one stage"):
        stage_starts([])
    with pytest.raises(ConfigError, match="must not end with a stage of 0 epochs"):
        stage_starts([Stage(epochs=1, lr={"head": 1.0}), Stage(epochs=0, solve_head=True)])


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
