"""Stages of training: the trained parts, their learning rates, the length. A strategy is a list of stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from movl_monai.errors import ConfigError

__all__ = ["Stage", "stage_starts", "total_epochs"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    r"""One stage of a training strategy.

    The learning rate of a part at step :math:`t` of the stage's :math:`T` is ``lr[part]`` times

    .. math:: \min(1, (t + 1) / T_w) \quad\text{while } t < T_w, \qquad
              \tfrac12 (1 + \cos(\pi (t - T_w) / (T - T_w))) \text{ afterwards.}

    Args:
        epochs: length in epochs; 0 only makes sense with ``solve_head=True``.
        lr: learning rate of every trained part ("prompt", "adapter", "head", "backbone"). Other parts, and those with
            a rate of 0, are fixed: they get no gradient, and a backbone also stays in eval mode.
        solve_head: let the trainer's head solver set the head before the first epoch of the stage: the exact linear
            probe, or a label mapping.
        refit_head: let the head solver set the head again before every other epoch of the stage (iterative label
            mapping).
        warmup_epochs: length of the linear warm-up, :math:`T_w` in epochs.
        schedule: "cosine" as above, or "constant" after the warm-up.
        name: shown in logs.

    Raises:
        ConfigError: for negative numbers, a stage without effect, or a warm-up as long as the stage.

    Example:
        >>> Stage(epochs=10, lr={"prompt": 3e-3, "head": 1e-3}).lr_factor(0, steps_per_epoch=5)
        1.0
    """

    epochs: int
    lr: Mapping[str, float] = field(default_factory=dict)
    solve_head: bool = False
    refit_head: bool = False
    warmup_epochs: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    name: str = "stage"

    def __post_init__(self) -> None:
        if self.epochs < 0 or any(rate < 0 for rate in self.lr.values()):
            raise ConfigError(f"epochs and learning rates must be >= 0, got epochs={self.epochs}, lr={dict(self.lr)}.")
        if self.epochs == 0 and not self.solve_head:
            raise ConfigError(
                f"Stage '{self.name}' does nothing: it has 0 epochs and solve_head is false. "
                "Give it epochs, or set solve_head to true."
            )
        if self.epochs > 0 and not any(rate > 0 for rate in self.lr.values()):
            raise ConfigError(f"Stage '{self.name}' has {self.epochs} epochs but no part with a learning rate above 0.")
        if self.warmup_epochs < 0 or (self.epochs and self.warmup_epochs >= self.epochs):
            raise ConfigError(f"warmup_epochs must be in [0, epochs={self.epochs}), got {self.warmup_epochs}.")
        if self.schedule not in ("cosine", "constant"):
            raise ConfigError(f"schedule must be 'cosine' or 'constant', got '{self.schedule}'.")

        object.__setattr__(self, "lr", {part: rate for part, rate in self.lr.items() if rate > 0})

    def lr_factor(self, step: int, *, steps_per_epoch: int) -> float:
        """Return the factor in [0, 1] on the learning rates at a step of this stage, counted from 0."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        if self.schedule == "constant":
            return 1.0
        progress = (step - warmup) / max(1.0, self.epochs * steps_per_epoch - warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def total_epochs(stages: Sequence[Stage]) -> int:
    """Return the number of epochs of a strategy.

    Example:
        >>> total_epochs([Stage(epochs=0, solve_head=True), Stage(epochs=8, lr={"prompt": 1e-3})])
        8
    """
    return sum(stage.epochs for stage in stages)


def stage_starts(stages: Sequence[Stage]) -> list[int]:
    """Return the epoch, counted from 0, at which every stage of a strategy begins.

    Raises:
        ConfigError: for no stages, or a last stage of 0 epochs after stages with epochs (its solution would be lost).
    """
    if not stages:
        raise ConfigError("A strategy needs at least one stage, got an empty list.")
    if stages[-1].epochs == 0 and total_epochs(stages) > 0:
        raise ConfigError("A strategy that trains for epochs must not end with a stage of 0 epochs; put it first.")
    starts, epoch = [], 0
    for stage in stages:
        starts.append(epoch)
        epoch += stage.epochs
    return starts
