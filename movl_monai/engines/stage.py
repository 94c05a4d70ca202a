"""Stages of training: the trained parts, their parameters and learning rates, the length."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from movl_monai.errors import ConfigError
from movl_monai.networks import unwrap

__all__ = ["PARTS", "Stage", "optimizer_groups", "set_trainable_parts", "stage_starts", "total_epochs"]

PARTS = ("prompt", "adapter", "backbone", "pooling", "head")


@dataclass(frozen=True, kw_only=True)
class Stage:
    r"""One stage of a training strategy.

    The learning rate of a part at step :math:`t` of the stage's :math:`T` is ``lr[part]`` times

    .. math:: \min(1, (t + 1) / T_w) \quad\text{while } t < T_w, \qquad
              \tfrac12 (1 + \cos(\pi (t - T_w) / (T - T_w))) \text{ afterwards.}

    Args:
        epochs: length in epochs; 0 only makes sense with ``solve_head=True``.
        lr: learning rate of every trained part ("prompt", "adapter", "pooling", "head", "backbone"). Other parts, and
            those with a rate of 0, are fixed: they get no gradient, and a backbone also stays in eval mode.
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
            raise ConfigError(
                f"warmup_epochs must be in [0, epochs={self.epochs}), got {self.warmup_epochs}. Set "
                "`--warmup_epochs 0` for so short a training, or give it more `--epochs`."
            )
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


def _parameters(network: nn.Module, part: str) -> list[nn.Parameter]:
    module = getattr(unwrap(network), part, None)
    if not isinstance(module, nn.Module) or (part == "backbone" and getattr(module, "frozen", False)):
        return []
    return list(module.parameters())


def optimizer_groups(
    network: nn.Module,
    *,
    head_weight_decay: float | None = None,
    layer_decay: float = 1.0,
    linear_lr_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups, by part and, with ``layer_decay``, by depth in the backbone.

    Args:
        network: with some of the children ``prompt``, ``adapter``, ``backbone``, ``pooling`` and ``head``.
        head_weight_decay: weight decay of the head; None uses the optimiser's.
        layer_decay: factor in (0, 1] on the learning rate from one block of a trained backbone to the block before it
            (discriminative learning rates): 1 for the last block, smallest for the first.
        linear_lr_scale: factor > 0 on the learning rate of the linear probe inside a head that has more parts, such as
            :class:`~movl_monai.heads.QueryHead`.

    Returns:
        Dictionaries with ``params``, ``name`` of the part and ``lr_scale``, in the order of :data:`PARTS`. A frozen
        backbone has no group.

    Raises:
        ConfigError: if ``layer_decay`` is not in (0, 1], or ``linear_lr_scale`` is not positive.
    """
    if not linear_lr_scale > 0:
        raise ConfigError(f"linear_lr_scale must be > 0, got {linear_lr_scale}.")
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay must be in (0, 1], got {layer_decay}.")
    groups: list[dict[str, Any]] = []
    for part in PARTS:
        parameters = _parameters(network, part)
        if part == "backbone" and parameters and layer_decay < 1:
            groups.extend(_depth_groups(unwrap(network).backbone, layer_decay))  # type: ignore[arg-type]
        elif part == "head":
            decay = {} if head_weight_decay is None else {"weight_decay": head_weight_decay}
            for members, scale in _head_groups(network, parameters, linear_lr_scale):
                groups.append({"params": members, "name": part, "lr_scale": scale, **decay})
        elif parameters:
            groups.append({"params": parameters, "name": part, "lr_scale": 1.0})
    return groups


def _head_groups(
    network: nn.Module, parameters: list[nn.Parameter], linear_lr_scale: float
) -> list[tuple[list[nn.Parameter], float]]:
    """Return the head's parameters with a factor on the learning rate; the linear probe inside a head goes last."""
    linear = getattr(getattr(unwrap(network), "head", None), "linear", None)
    inside = {id(parameter) for parameter in linear.parameters()} if isinstance(linear, nn.Module) else set()
    if linear_lr_scale == 1 or not inside:
        return [(parameters, 1.0)] if parameters else []
    parts = [[one for one in parameters if (id(one) in inside) == within] for within in (False, True)]
    return [(members, scale) for members, scale in zip(parts, (1.0, linear_lr_scale), strict=True) if members]


def _depth_groups(backbone: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Return one group per block: parameters whose names agree up to the block's number."""
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        number = re.match(r"(.*?\.\d+(?:\.\d+)?)\.", name)
        blocks.setdefault(number.group(1) if number else name.rpartition(".")[0], []).append(parameter)
    last = len(blocks) - 1
    return [
        {"params": parameters, "name": "backbone", "lr_scale": layer_decay ** (last - depth)}
        for depth, parameters in enumerate(blocks.values())
    ]


def set_trainable_parts(network: nn.Module, optimizer: Optimizer, parts: set[str]) -> None:
    """Require gradients for exactly the named parts.

    Raises:
        ConfigError: for a part that the network lacks, or that is permanently frozen.
    """
    known = {group["name"] for group in optimizer.param_groups}
    if missing := sorted(parts - known):
        raise ConfigError(
            f"The stage trains {missing}, but this network can only train {sorted(known)}. "
            "Give the network that part, set the backbone's frozen to false, or change the stage's lr."
        )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(group["name"] in parts)
            parameter.grad = None
