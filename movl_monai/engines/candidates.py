"""Candidate states that no training step visits: between start and end, and the mean of the last epochs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn

from movl_monai.errors import ConfigError
from movl_monai.networks import unwrap

__all__ = ["MoreCandidates"]

_LOGGER = logging.getLogger(__name__)
State = dict[str, torch.Tensor]


class MoreCandidates:
    r"""Validate further states after the last epoch; the evaluator's checkpoint keeps a better one.

    .. math:: \theta_\alpha = (1 - \alpha)\, \theta_{\text{start}} + \alpha\, \theta_{\text{end}}

    The start is the state before the first step; if the head is solved there, it is the exact probe with an identity
    prompt or adapter. The end is the mean over the last epochs, or the last epoch alone; that mean is also a candidate.
    All trained tensors are mixed.

    Attach it before :class:`~movl_monai.engines.ValidateStart`, which reports the selected state at the end of
    training.

    Args:
        validator: the validation engine.
        interpolate: the factors :math:`\alpha`, each in (0, 1); empty for no such candidates.
        average_last: number of last epochs in the mean; 0 or 1 uses the last epoch alone.
        solve_head: add the end with its head solved again as a candidate, by the trainer's head solver, on the features
            of the trained prompt or adapter; it takes one more pass over the training and validation images.

    Raises:
        ConfigError: for factors out of range, or a negative number of epochs.

    Reference:
        Wortsman et al. (WiSE-FT), arXiv 2109.01903, equation 1, here for the tensors that were trained; Izmailov et al.
        (SWA), arXiv 1803.05407, here with the schedule of the stage instead of a constant rate.
    """

    def __init__(
        self,
        validator: Evaluator,
        *,
        interpolate: Sequence[float] = (),
        average_last: int = 0,
        solve_head: bool = False,
    ) -> None:
        self.validator = validator
        self.interpolate = [float(factor) for factor in interpolate]
        self.average_last = int(average_last)
        self.solve_head = solve_head
        if any(not 0 < factor < 1 for factor in self.interpolate):
            raise ConfigError(
                f"interpolate must be numbers between 0 (the start) and 1 (the end), got {list(interpolate)}; both "
                "ends are candidates anyway."
            )
        if self.average_last < 0:
            raise ConfigError(f"average_last must be a number of epochs, at least 0, got {average_last}.")

    def attach(self, engine: Engine) -> None:
        """Keep the start, sum up the last epochs, and validate the candidates at the end of training."""
        engine.add_event_handler(Events.STARTED, self._keep_start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._validate)

    def _keep_start(self, trainer: Any) -> None:
        if self.interpolate and trainer.state.epoch == 0:
            trainer.kept_states["start"] = _copied(trainer.network)

    def _add(self, trainer: Any) -> None:
        number = trainer.state.epoch - max(0, trainer.state.max_epochs - self.average_last)
        if self.average_last < 2 or number < 1:
            return
        mean = trainer.kept_states.setdefault("mean", {})
        for name, value in _tensors(trainer.network).items():
            old = mean.get(name)
            mean[name] = value.clone() if old is None else torch.lerp(old.to(value), value, 1 / number)

    def _validate(self, trainer: Any) -> None:
        if not trainer.state.max_epochs or not trainer.state.epoch:
            return
        last = _copied(trainer.network)
        start, mean = trainer.kept_states.get("start"), trainer.kept_states.get("mean")
        end, name = (last, "the last epoch") if mean is None else (mean, f"the mean of {self.average_last} epochs")
        candidates: list[tuple[str, State]] = [] if mean is None else [(name, mean)]
        if start is not None:
            candidates += [
                (f"{factor:g} of the way from the start to {name}", _mixed(start, end, factor))
                for factor in self.interpolate
            ]
        if self.solve_head:
            if trainer.head_solver is None:
                raise ConfigError("A head can be solved again by a trainer with a head_solver, this one has none.")
            _load(trainer.network, end)
            trainer.head_solver.apply(unwrap(trainer.network))
            candidates.append((f"{name} with its head solved again", _copied(trainer.network)))
        for number, (what, state) in enumerate(candidates, start=trainer.state.epoch + 1):
            _LOGGER.info("Validating %s (shown as epoch %d of the validation).", what, number)
            _load(trainer.network, state)
            self.validator.run(global_epoch=number)
            if self.validator.state.best_metric_epoch == number:
                _LOGGER.info("The best on val so far is %s.", what)
        _load(trainer.network, last)


def _tensors(network: nn.Module) -> State:
    """Return the trained floating-point tensors of the checkpoint; they share the network's memory."""
    return {name: value for name, value in unwrap(network).state_dict().items() if value.is_floating_point()}


def _copied(network: nn.Module) -> State:
    return {name: value.clone() for name, value in _tensors(network).items()}


def _mixed(start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], factor: float) -> State:
    return {name: torch.lerp(value, end[name].to(value), factor) for name, value in start.items()}


@torch.no_grad()
def _load(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    for name, value in _tensors(network).items():
        value.copy_(state[name])
