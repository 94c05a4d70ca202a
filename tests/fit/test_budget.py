"""Predicted times of trainings, on a clock that only steps move."""

from __future__ import annotations

from typing import Any

import pytest
from ignite.engine import Engine, Events

from movl_monai.fit.budget import Budget, OutOfBudgetError, Watch


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _train(budget: Budget, clock: _Clock, *, over: Any, epochs: int = 4, steps: int = 10) -> tuple[Watch, list[str]]:
    """Train with steps of 2 s (the first takes 30 s) and validations of 5 s."""
    said: list[str] = []

    def step(engine: Engine, _: int) -> None:
        clock.now += 30.0 if engine.state.iteration == 1 else 2.0

    def validate(engine: Engine, _: int) -> None:
        clock.now += 5.0

    trainer, evaluator = Engine(step), Engine(validate)
    watch = Watch(budget, say=said.append, name="arm", over=over)
    watch(trainer, evaluator)
    trainer.add_event_handler(Events.STARTED, lambda _: evaluator.run([0]))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    trainer.run(range(steps), max_epochs=epochs)
    return watch, said


def test_the_prediction_leaves_out_the_slow_first_step() -> None:
    clock = _Clock()
    watch, said = _train(Budget(10, clock=clock), clock, over="stop")
    assert watch.predicted == 4 * (10 * 2 + 5) + 5 * 5
    assert len(said) == 5
    assert "2 s per step" in said[0]


def test_a_training_that_does_not_fit_is_stopped_after_its_first_steps() -> None:
    clock = _Clock()
    with pytest.raises(OutOfBudgetError) as stopped:
        _train(Budget(2, clock=clock), clock, over="stop")
    assert clock.now == 5 + 30 + 5 * 2
    assert stopped.value.per_epoch == 25


def test_the_reserve_belongs_to_evaluation_and_export() -> None:
    clock = _Clock()
    budget = Budget(10, clock=clock)
    budget.reserve = 500
    with pytest.raises(OutOfBudgetError):
        _train(budget, clock, over="shorten")


def test_a_training_that_has_to_be_done_goes_on() -> None:
    clock = _Clock()
    _, said = _train(Budget(1, clock=clock), clock, over="run")
    assert "epoch 4 of 4" in said[-1]
