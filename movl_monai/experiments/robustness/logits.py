"""Run several networks on the same images; networks on the same plain frozen features share one backbone pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from monai.networks.utils import eval_mode
from torch import nn

from movl_monai.engines import prepare_image_batch
from movl_monai.metrics.checks import check_finite
from movl_monai.networks import AdaptedClassifier

__all__ = ["compute_logits", "plain_backbone"]


def plain_backbone(network: nn.Module) -> str | None:
    """Return the SHA-256 of the backbone if the head reads its plain features, else None.

    Plain features have no prompt, no adapter and no trained backbone parameter. Networks with equal hashes, such as
    linear probes of several seeds, can share them. A head that also reads tokens does not qualify.
    """
    if not isinstance(network, AdaptedClassifier) or network.adapted is not None or not network.backbone.frozen:
        return None
    return network.backbone.content_sha256() if isinstance(network.prompt, nn.Identity) else None


@torch.inference_mode()
def compute_logits(
    networks: Mapping[str, nn.Module],
    images: torch.Tensor,
    *,
    shared: Mapping[str, str | None] | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    """Compute the logits of every network.

    Args:
        networks: networks by name, (B, 3, H, W) in [0, 1] to logits (B, C), on the device.
        images: uint8 or float32 in [0, 1], (N, 3, H, W).
        shared: results of :func:`plain_backbone` by name, as hashing takes time; None computes them.
        device: device of the networks.
        batch_size: images per forward pass.

    Returns:
        float64 (N, C) by name.

    Raises:
        NonFiniteLogitsError: if a logit is NaN or infinite.
    """
    keys = {name: plain_backbone(network) for name, network in networks.items()} if shared is None else shared
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in networks}
    for start in range(0, len(images), batch_size):
        image, _ = prepare_image_batch({"image": images[start : start + batch_size]}, device)
        features: dict[str, torch.Tensor] = {}
        for name, network in networks.items():
            with eval_mode(network):
                rows[name].append(_forward(network, image, keys.get(name), features).double().cpu())
    logits = {name: torch.cat(parts).numpy() for name, parts in rows.items()}
    for values in logits.values():
        check_finite(values)
    return logits


def _forward(
    network: nn.Module, image: torch.Tensor, key: str | None, features: dict[str, torch.Tensor]
) -> torch.Tensor:
    if key is None or not isinstance(network, AdaptedClassifier):
        return network(image)
    if key not in features:
        features[key] = network.backbone(image)
    return network.head(features[key])
