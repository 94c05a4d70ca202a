"""Candidates after the last epoch: contents, selection, and the same ones in a resumed run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events
from torch import nn

from movl_monai.engines import MoreCandidates
from movl_monai.errors import ConfigError


class _Validator:
    """Notes the parameter of every state that it sees, and selects the one nearest to a target."""

    def __init__(self, network: nn.Linear, target: float) -> None:
        self.network, self.target = network, target
        self.seen: dict[int, float] = {}
        self.state = SimpleNamespace(best_metric_epoch=-1)

    def run(self, global_epoch: int) -> None:
        self.seen[global_epoch] = float(self.network.weight.detach())
        self.state.best_metric_epoch = min(self.seen, key=lambda epoch: abs(self.seen[epoch] - self.target))


class _TimesTen:
    """Solves a head."""

    def apply(self, network: nn.Module) -> float:
        network.weight.data.mul_(10.0)  # type: ignore[operator, union-attr]
        return 0.0


def _trainer(network: nn.Linear, handler: MoreCandidates, kept: dict[str, Any]) -> Engine:
    """Every epoch adds 1 to the weight."""
    trainer: Any = Engine(lambda engine, batch: None)
    trainer.network, trainer.kept_states, trainer.head_solver = network, kept, _TimesTen()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: network.weight.data.add_(1.0))
    handler.attach(trainer)
    return trainer


@pytest.mark.parametrize(
    ("interpolate", "average_last", "solve_head", "expected"),
    [
        ([], 0, False, {}),
        ([0.25, 0.5], 0, False, {5: 1.0, 6: 2.0}),
        ([], 3, False, {5: 3.0}),  # of 2, 3, 4
        ([0.5], 2, False, {5: 3.5, 6: 1.75}),
        ([], 9, False, {5: 2.5}),  # of all
        ([], 0, True, {5: 40.0}),
        ([0.5], 2, True, {5: 3.5, 6: 1.75, 7: 35.0}),
    ],
)
def test_candidates_are_the_mean_and_mixtures_with_the_start(
    interpolate: list[float], average_last: int, solve_head: bool, expected: dict[int, float]
) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    validator: Any = _Validator(network, 2.0)
    handler = MoreCandidates(validator, interpolate=interpolate, average_last=average_last, solve_head=solve_head)
    _trainer(network, handler, {}).run([0], max_epochs=4)
    assert validator.seen == pytest.approx(expected)
    assert float(network.weight.detach()) == 4.0, "training ends with the state of its last epoch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolate": [0.5, 1.0]}, r"between 0 \(the start\) and 1 \(the end\), got \[0.5, 1.0\]"),
        ({"average_last": -1}, "average_last must be a number of epochs, at least 0, got -1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MoreCandidates(None, **options)  # type: ignore[arg-type]
