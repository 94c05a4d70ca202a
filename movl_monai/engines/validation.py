"""Validation of the state before the first step, and the checkpoint of the best state."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from movl_monai.networks import load_checkpoint, save_atomically, unwrap
from movl_monai.runs.keep_record import note_start

__all__ = ["BestCheckpoint", "LoadCheckpoint", "ValidateStart"]

_LOGGER = logging.getLogger(__name__)


class ValidateStart:
    """Validate before the first step of training, so that the start is a candidate for selection.

    If training makes the validation metric worse, the start is kept. MONAI's ``ValidationHandler`` has
    ``exec_at_start`` for this purpose, but runs two validations, as epochs 0 and 1, and cannot resume.

    Args:
        validator: the validation engine.
    """

    def __init__(self, validator: Evaluator) -> None:
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Run at the trainer's start, after it enters the first stage, unless a run is resumed."""
        engine.add_event_handler(Events.STARTED, self._validate)
        engine.add_event_handler(Events.COMPLETED, self._tell_start)

    def _tell_start(self, trainer: Any) -> None:
        if trainer.state.max_epochs and self.validator.state.best_metric_epoch == 0:
            solved = _solved_at_start(trainer)
            _LOGGER.warning(
                "THE START WAS KEPT: no epoch of training was %s on val than the state before the first step. The "
                "checkpoint holds %s. Train longer (--epochs) or with another learning rate (--head_lr).",
                "better" if getattr(self.validator, "figure", None) is None else "clearly better",
                "what was solved before it" if solved else "an untrained head",
            )

    def _validate(self, trainer: Engine) -> None:
        if trainer.state.epoch > 0:
            return
        _LOGGER.info("Validating the state before the first step (shown as epoch 1 of the validation).")
        state: Any = self.validator.state
        if trainer.state.max_epochs:  # else only the start was requested
            state.start = "solved" if _solved_at_start(trainer) else "untrained"
        self.validator.run(global_epoch=1)  # ignite engines cannot run an epoch 0
        state.best_metric_epoch, state.start = 0, None


class BestCheckpoint:
    """Write the network's checkpoint whenever a validation is the best so far. Attach it to the evaluator.

    The record beside the checkpoint notes if that state is the start of training, see :class:`ValidateStart`.

    Args:
        path: the checkpoint, with the trained tensors and the sha256 of the frozen weights.
        network: the network, possibly inside DistributedDataParallel.
    """

    def __init__(self, path: str | os.PathLike[str], *, network: torch.nn.Module) -> None:
        self.path = Path(path)
        self.network = network
        self._best_before: tuple[float, int] = (-1, -1)

    def attach(self, engine: Engine) -> None:
        """Check every completed validation."""
        engine.add_event_handler(Events.STARTED, self._remember)
        engine.add_event_handler(Events.COMPLETED, self._save_if_best)

    def _remember(self, evaluator: Any) -> None:
        self._best_before = (evaluator.state.best_metric, evaluator.state.best_metric_epoch)

    def _save_if_best(self, evaluator: Any) -> None:
        if evaluator.state.rank == 0 and self._best_before != (
            evaluator.state.best_metric,
            evaluator.state.best_metric_epoch,
        ):
            save_atomically(unwrap(self.network).state_dict(), self.path)
            note_start(self.path, getattr(evaluator.state, "start", None))


def _solved_at_start(trainer: Any) -> bool:
    """Return True if the first stage solves the head, which it does before the first validation."""
    return any(stage.solve_head for stage in getattr(trainer, "stages", ())[:1])


class LoadCheckpoint:
    """Load a checkpoint into the network when an engine starts.

    Args:
        path: the `model.pt` of a training.
        network: the network, possibly inside DistributedDataParallel.

    Raises:
        CheckpointMismatchError: at the start, if the file is missing, damaged, or of another network or frozen weights.
    """

    def __init__(self, path: str | os.PathLike[str], *, network: torch.nn.Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load at the engine's start."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load now."""
        unwrap(self.network).load_state_dict(load_checkpoint(self.path))
