"""Parameters by part of the network, so that a stage can address them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from movl_monai.errors import ConfigError

__all__ = ["PARTS", "optimizer_groups", "set_trainable_parts", "unwrap"]

PARTS = ("prompt", "adapter", "backbone", "head")


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside a DistributedDataParallel or compiled wrapper."""
    for name in ("module", "_orig_mod"):
        inner = getattr(network, name, None)
        if isinstance(inner, nn.Module):
            return unwrap(inner)
    return network


def _parameters(network: nn.Module, part: str) -> list[nn.Parameter]:
    module = getattr(unwrap(network), part, None)
    if not isinstance(module, nn.Module) or (part == "backbone" and getattr(module, "frozen", False)):
        return []
    return list(module.parameters())


def optimizer_groups(network: nn.Module, *, head_weight_decay: float | None = None) -> list[dict[str, Any]]:
    """Return one optimiser parameter group per part that can train.

    Args:
        network: with the children ``prompt``, ``adapter``, ``backbone`` and ``head``, those that it has.
        head_weight_decay: weight decay of the head where it differs from the optimiser's.

    Returns:
        dictionaries with ``params`` and ``name`` (and ``weight_decay``), in the order of :data:`PARTS`. A frozen
        backbone has no group.
    """
    groups: list[dict[str, Any]] = []
    for part in PARTS:
        parameters = _parameters(network, part)
        if parameters:
            groups.append({"params": parameters, "name": part})
            if part == "head" and head_weight_decay is not None:
                groups[-1]["weight_decay"] = head_weight_decay
    return groups


def set_trainable_parts(network: nn.Module, optimizer: Optimizer, parts: set[str]) -> None:
    """Let exactly the named parts require gradients.

    Raises:
        ConfigError: if a part is named that this network does not have or that is frozen for good.
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
