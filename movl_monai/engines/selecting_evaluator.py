"""MONAI's evaluator with a second figure that decides where the first one is equal."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from movl_monai.errors import ConfigError

__all__ = ["SelectingEvaluator"]


class SelectingEvaluator(SupervisedEvaluator):
    """Select by the key metric; among equals by another metric, and among equals of both the earliest.

    On a small ``val`` many states have the same number of right answers; a figure of the probabilities still tells
    them apart. ``state.best_tie_break`` is that figure of the best state, None before the first validation.

    Args:
        tie_break: name of a metric in ``additional_metrics``, higher is better; None keeps the earliest of equals.
        options: as of MONAI's ``SupervisedEvaluator``; without ``metric_cmp_fn``, which is what this class sets.

    Raises:
        ConfigError: if ``tie_break`` is no metric of this evaluator, or ``metric_cmp_fn`` is given too.
    """

    def __init__(self, *, tie_break: str | None = None, **options: Any) -> None:
        known = list(options.get("additional_metrics") or {})
        if tie_break is not None and tie_break not in known:
            raise ConfigError(
                f"tie_break must be one of the additional_metrics ({', '.join(known) or 'none'}) or null, "
                f"got '{tie_break}'."
            )
        if "metric_cmp_fn" in options:
            raise ConfigError("SelectingEvaluator compares by itself; leave metric_cmp_fn out.")
        super().__init__(metric_cmp_fn=self._is_better, **options)
        self.tie_break = tie_break
        self.state.best_tie_break = None
        # behind MONAI's own comparison, which the base class registered
        self.add_event_handler(Events.EPOCH_COMPLETED, self._keep_tie_break)

    def _is_better(self, current: float, best: float) -> bool:
        if current != best or self.tie_break is None or self.state.best_tie_break is None:
            return current > best
        return bool(self.state.metrics[self.tie_break] > self.state.best_tie_break)

    def _keep_tie_break(self, engine: Engine) -> None:
        if self.tie_break is not None and self.state.best_metric_epoch == self.state.epoch:
            self.state.best_tie_break = float(self.state.metrics[self.tie_break])
