"""Choice of the layers of a backbone, by the exact linear probe on ``val``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from movl_monai.backbones import Backbone, Layers

from .features import FeatureSet
from .linear_probe import DEFAULT_L2_GRID, LinearProbe

__all__ = ["layer_losses"]

_LOGGER = logging.getLogger(__name__)


def layer_losses(
    backbone: Backbone,
    train: Any,
    val: Any,
    *,
    num_classes: int,
    candidates: Mapping[str, Layers] | None = None,
    l2: float | Sequence[float] = DEFAULT_L2_GRID,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> dict[str, float]:
    """Compute the cross entropy on ``val`` of the exact linear probe for several ``layers`` of a frozen backbone.

    The layers with the smallest value are the ``--layers`` for training. Each candidate costs a forward pass over all
    images and a linear probe.

    Args:
        backbone: frozen; its own ``layers`` are ignored.
        train: data set for fitting, with ``images`` (N, 3, H, W) uint8 and ``labels`` (N,).
        val: data set for the choice, in the same form; never the test set.
        num_classes: number of logits.
        candidates: layers by name; None compares "last", "all" and the last third ("last_third").
        l2: L2 strengths to try for each.
        device: of backbone and probe.
        progress: show a progress bar.

    Returns:
        Cross entropy by name, smallest first.

    Raises:
        ConfigError: if the layers do not exist.
    """
    if candidates is None:
        count = backbone.with_layers("all").layer_reader.num_layers
        third = list(range(count - max(1, round(count / 3)), count))
        candidates = {"last": "last", "all": "all", "last_third": third}
    losses = {}
    for name, layers in candidates.items():
        encoder = backbone.with_layers(layers)
        sets = (FeatureSet(data, encoder, device=device, progress=progress) for data in (train, val))
        solution = LinearProbe(*sets, num_classes=num_classes, l2=l2, device=device).solve()
        losses[name] = float(solution.val_loss)  # type: ignore[arg-type]
        _LOGGER.info("layers=%s: cross entropy %.4f on val.", layers, losses[name])
    return dict(sorted(losses.items(), key=lambda entry: entry[1]))
