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


def _train(
    budget: Budget, clock: _Clock, *, epochs: int = 4, steps: int = 10, **options: Any
) -> tuple[Watch, list[str]]:
    """Train with steps of 2 s (the first takes 30 s) and validations of 5 s."""
    said: list[str] = []

    def step(engine: Engine, _: int) -> None:
        clock.now += 30.0 if engine.state.iteration == 1 else 2.0

    def validate(engine: Engine, _: int) -> None:
        clock.now += 5.0

    trainer, evaluator = Engine(step), Engine(validate)
    watch = Watch(budget, say=said.append, name="arm", **options)
    watch(trainer, evaluator)
    trainer.add_event_handler(Events.STARTED, lambda _: evaluator.run([0]))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    trainer.run(range(steps), max_epochs=epochs)
    return watch, said


def test_the_prediction_leaves_out_the_slow_first_step() -> None:
    clock = _Clock()
    watch, said = _train(Budget(10, clock=clock), clock)
    assert watch.predicted == 4 * (10 * 2 + 5) + 5 * 5
    assert watch.stopped is None
    assert len(said) == 5
    assert "2 s per step" in said[0]


@pytest.mark.parametrize(("minutes", "reserve"), [(2, 0), (10, 500)], ids=["budget", "reserve"])
def test_a_training_that_does_not_fit_raises_after_its_first_steps(minutes: float, reserve: float) -> None:
    clock = _Clock()
    budget = Budget(minutes, clock=clock)
    budget.reserve = reserve
    with pytest.raises(OutOfBudgetError) as found:
        _train(budget, clock)
    assert clock.now == 5 + 30 + 5 * 2
    assert (found.value.per_epoch, found.value.epochs, found.value.closing) == (25, 4, 25)


# the first epoch ends after 58 s and its validation, 25 s of validations are to come
@pytest.mark.parametrize(("seconds", "least", "epochs", "at"), [(100, 0, 1, 76), (70, 0, 0, 47), (60, 1, 1, 58)])
def test_a_training_ends_in_time_for_its_last_validations(seconds: float, least: int, epochs: int, at: float) -> None:
    clock = _Clock()
    watch, said = _train(Budget(seconds / 60, clock=clock), clock, may_raise=False, least=least)
    assert watch.stopped == epochs
    assert clock.now == at
    assert f"stopped after {epochs} of 4 epochs" in said[-1]
