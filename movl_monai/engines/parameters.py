"""Parameters by part of the network, for use in stages."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from torch.optim import Optimizer

from movl_monai.errors import ConfigError
from movl_monai.networks import unwrap

__all__ = ["PARTS", "optimizer_groups", "set_trainable_parts"]

PARTS = ("prompt", "adapter", "backbone", "head")


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
        network: with some of the children ``prompt``, ``adapter``, ``backbone`` and ``head``.
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
