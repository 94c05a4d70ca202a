"""Keep the state of training after every epoch, and resume from it."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from movl_monai.errors import CheckpointMismatchError
from movl_monai.networks import load_checkpoint, save_atomically, unwrap

__all__ = ["Resume"]

_LOGGER = logging.getLogger(__name__)
_LABELS = "labels of the training images"
_BEST = ("best_metric", "best_metric_epoch", "best_tie_break", "first_logits")


class Resume:
    """Write the trainer's state after every epoch; optionally load it at the start.

    The state consists of the network's trained tensors, the optimiser, the gradient scaler, the number of completed
    epochs and the best validation result so far. Random numbers are seeded per epoch and need no state. A run that was
    killed and resumed therefore ends bit for bit (on a CPU) as an uninterrupted one.

    Args:
        path: the file; written atomically, so that a kill while writing leaves the previous one.
        evaluator: the validation engine, whose best metric is part of the state.
        enabled: load ``path`` if it exists; False starts from the beginning and overwrites it.

    Raises:
        CheckpointMismatchError: in ``load``, if the file belongs to another network or strategy, or other labels.
    """

    def __init__(self, path: str | os.PathLike[str], *, evaluator: Engine | None = None, enabled: bool = True) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Save after every epoch, after all handlers attached before."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, trainer: Any) -> None:
        """Write the state of the trainer (on rank 0 only)."""
        if trainer.state.rank != 0:
            return
        save_atomically(
            {
                "network": unwrap(trainer.network).state_dict(),
                "optimizer": trainer.optimizer.state_dict(),
                "scaler": None if trainer.scaler is None else trainer.scaler.state_dict(),
                "epoch": trainer.state.epoch,
                "head_l2": trainer.head_l2,
                "kept_states": trainer.kept_states,
                "strategy": _strategy(trainer),
                "best": None
                if self.evaluator is None
                else {name: getattr(self.evaluator.state, name, None) for name in _BEST},
            },
            self.path,
        )

    def load(self, trainer: Any) -> None:
        """Restore the kept state; do nothing if there is none."""
        if not self.enabled or not self.path.is_file():
            return
        state = load_checkpoint(self.path)
        if differences := _differences(state, trainer):
            raise CheckpointMismatchError(
                f"{self.path} keeps the state of a training with other settings{differences}. Use the same settings to "
                "go on, or `--resume false --overwrite true` to start again."
            )
        unwrap(trainer.network).load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if trainer.scaler is not None and state["scaler"] is not None:
            trainer.scaler.load_state_dict(state["scaler"])
        trainer.head_l2 = state["head_l2"]
        trainer.kept_states = dict(state["kept_states"])
        trainer.state.epoch = int(state["epoch"])
        trainer.state.iteration = trainer.state.epoch * int(trainer.state.epoch_length)
        if self.evaluator is not None and state["best"] is not None:
            for name in _BEST:
                setattr(self.evaluator.state, name, state["best"].get(name))
        _LOGGER.info("Resumed after epoch %d of %d.", trainer.state.epoch, trainer.state.max_epochs)


def _strategy(trainer: Any) -> dict[str, str]:
    """Return the settings that a resumed run must share, by name."""
    settings: dict[str, Any] = {"stages": ", ".join(stage.name for stage in trainer.stages)}
    settings |= {f"{stage.name}: {name}": value for stage in trainer.stages for name, value in vars(stage).items()}
    settings |= {"seed": trainer.seed, "steps per epoch (images, batch_size)": trainer.state.epoch_length}
    settings |= {"accumulation_steps": trainer.accumulation_steps, "clip_grad_norm": trainer.clip_grad_norm}
    labels = getattr(getattr(trainer.data_loader, "dataset", None), "labels", None)
    if labels is not None:  # the images are told by the splits that a training keeps
        values = np.asarray(labels)
        values = values if values.dtype.kind == "f" else values.astype(np.int64)
        settings[_LABELS] = f"digest {hashlib.sha256(values.tobytes()).hexdigest()[:8]}"
    return {name: str(value) for name, value in settings.items()}


def _differences(state: dict[str, Any], trainer: Any) -> str:
    """Return the settings that differ, with both values, or ""; those of earlier versions are not known."""
    there, here = state.get("strategy"), _strategy(trainer)
    if not isinstance(there, dict) or "kept_states" not in state:
        return ", or of an earlier version"
    here = {name: value for name, value in here.items() if name in there or name != _LABELS}
    names = [name for name in here | there if there.get(name) != here.get(name)]
    names = ["stages"] if "stages" in names else names
    shown = "; ".join(f"{name} {there.get(name, 'none')} there, {here.get(name, 'none')} now" for name in names)
    return f": {shown}" if names else ""
