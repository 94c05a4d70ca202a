"""Stages set the parts that train, the learning rates and the number of epochs."""

from __future__ import annotations

import math

import pytest

from movl_monai.engines import Stage, stage_starts, total_epochs
from movl_monai.errors import ConfigError


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
