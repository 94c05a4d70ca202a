"""Time budget of a fit: predict the time of a training from its first steps, show its progress, and end it in time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from ignite.engine import Events

__all__ = ["Budget", "OutOfBudgetError", "Watch", "in_words"]

_STEPS = 6  # the first step, which is slow, and five measured ones
_CHECKS = 5  # validations after the last epoch: between start and end, and the mean of the last epochs


class OutOfBudgetError(Exception):
    """A training that would not end in time.

    Args:
        predicted: seconds of the whole training.
        per_epoch: seconds of an epoch, with its validation.
        epochs: of the whole training.
        closing: seconds of the validations after the last epoch.
    """

    def __init__(self, predicted: float, *, per_epoch: float, epochs: int, closing: float) -> None:
        super().__init__(f"{predicted:.0f} s")
        self.predicted, self.per_epoch, self.epochs, self.closing = predicted, per_epoch, epochs, closing


class Budget:
    """Seconds that are left for candidates.

    Args:
        minutes: for everything.
        clock: seconds that only grow.

    Attributes:
        reserve: seconds that evaluation and export will take.
    """

    def __init__(self, minutes: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = 60 * minutes, clock
        self.reserve = 0.0
        self.begin = clock()

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self.clock() - self.begin

    def left(self) -> float:
        """Return the seconds that are left for candidates, below 0 if the budget is spent."""
        return self.seconds - self.reserve - self.elapsed()


class Watch:
    """Handlers of a training: its predicted time from the first steps, one line per epoch, and its end in time.

    When only the time of the last validations is left, the training ends after its present step, and the best state so
    far stays. The last step of an epoch is followed by the validation of that epoch in any case.

    Args:
        budget: of the fit.
        say: takes a line for the user.
        name: of the candidate.
        least: epochs that are trained in any case.
        may_raise: raise :class:`OutOfBudgetError` after the first steps of a training that would not end in time.

    Attributes:
        predicted: seconds of the whole training, from its first steps; None before.
        validation: seconds of the last validation.
        stopped: whole epochs of a training that was ended by the budget; None for one that was not.
        evaluator: of the training; None before it, and if the training was done before.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        say: Callable[[str], None],
        name: str,
        least: int = 0,
        may_raise: bool = True,
    ) -> None:
        self.budget, self.say, self.name, self.least, self.may_raise = budget, say, name, least, may_raise
        self.predicted: float | None = None
        self.stopped: int | None = None
        self.validation = 0.0
        self.evaluator: Any = None
        self._steps: list[float] = []
        self._last = self._begun = 0.0

    def __call__(self, trainer: Any, evaluator: Any) -> None:
        """Attach to a trainer and its evaluator."""
        self.trainer, self.evaluator = trainer, evaluator
        evaluator.add_event_handler(Events.STARTED, self._begin_validation)
        evaluator.add_event_handler(Events.COMPLETED, self._end_validation)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _begin_validation(self, _: Any) -> None:
        self._begun = self.budget.clock()

    def _end_validation(self, _: Any) -> None:
        self.validation = self.budget.clock() - self._begun

    def _begin_epoch(self, _: Any) -> None:
        self._last = self.budget.clock()

    def _step(self, _: Any) -> None:
        now = self.budget.clock()
        self._steps.append(now - self._last)
        self._last = now
        if self.predicted is None and len(self._steps) >= min(_STEPS, self.trainer.state.epoch_length):
            self._predict()
        if self.trainer.state.iteration % self.trainer.state.epoch_length:
            self._stop_if_over()

    def _predict(self) -> None:
        state = self.trainer.state
        step = statistics.median(self._steps[1:] or self._steps)
        per_epoch = step * state.epoch_length + self.validation
        self.predicted = per_epoch * state.max_epochs + _CHECKS * self.validation
        left = self.predicted - step * len(self._steps) - per_epoch * (state.epoch - 1)
        late = left > self.budget.left()
        self.say(
            f"{self.name}: {step:.2g} s per step, {in_words(left)} for {state.max_epochs} epochs"
            + (f"; {in_words(self.budget.left())} are left" if late else "")
        )
        if late and self.may_raise:
            self.trainer.logger.disabled = True  # of ignite, which would log an error
            closing = _CHECKS * self.validation
            raise OutOfBudgetError(self.predicted, per_epoch=per_epoch, epochs=state.max_epochs, closing=closing)

    def _end_epoch(self, _: Any) -> None:
        state, found = self.trainer.state, self.evaluator.state
        name = str(getattr(found, "key_metric_name", None) or "")
        value = found.metrics.get(name)
        shown = "" if value is None else f", {name.removeprefix('val_').replace('_', ' ')} on val {value:.3f}"
        self.say(f"{self.name}: epoch {state.epoch} of {state.max_epochs}{shown}")
        if state.epoch < state.max_epochs:
            self._stop_if_over()

    def _stop_if_over(self) -> None:
        state = self.trainer.state
        done = state.iteration // state.epoch_length
        if self.stopped is None and done >= self.least and self.budget.left() < _CHECKS * self.validation:
            self.stopped = done
            self.say(f"{self.name}: stopped after {done} of {state.max_epochs} epochs: the budget is spent")
            self.trainer.terminate()


def in_words(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> in_words(42.4), in_words(90), in_words(4000)
        ('42 s', '1.5 min', '67 min')
    """
    if seconds < 60:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
