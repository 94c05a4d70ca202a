"""Faster frozen backbones with the same features: folded BatchNorm, channels last."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from movl_monai.errors import ConfigError

from .base import Backbone

__all__ = ["fold_batchnorm", "prepare_frozen"]

_LOGGER = logging.getLogger(__name__)
_TOLERANCE = 1e-4
_PROBE_SIZE = 64


def prepare_frozen(backbone: Backbone, *, fold: bool = True, channels_last: bool = True) -> Backbone:
    """Return a faster copy of a frozen backbone with the same features, which stands for the same weights.

    Its ``content_sha256()`` equals the original's while it is unchanged, so checkpoints and cached features fit both.
    Its tensors differ: new weights must be loaded into the original, which is then prepared again.

    Args:
        backbone: a frozen backbone; unchanged.
        fold: fold BatchNorm into the convolutions, see :func:`fold_batchnorm`.
        channels_last: store the convolutions' weights with the channels last, which is faster on CPUs and tensor cores.

    Raises:
        ConfigError: if the backbone is not frozen.

    Example:
        >>> from movl_monai.backbones import ResNetBackbone
        >>> backbone = ResNetBackbone("resnet18", image_size=64)
        >>> prepare_frozen(backbone).content_sha256() == backbone.content_sha256()
        True
    """
    _check_frozen(backbone)
    prepared = fold_batchnorm(backbone) if fold else copy.deepcopy(backbone)
    return prepared.to(memory_format=torch.channels_last) if channels_last else prepared


def fold_batchnorm(backbone: Backbone) -> Backbone:
    r"""Return a copy of a frozen backbone whose BatchNorm layers are folded into the convolutions before them.

    In eval mode BatchNorm is affine per channel, so with :math:`s = \gamma / \sqrt{\sigma^2 + \epsilon}`

    .. math:: W' = s W \qquad b' = s (b - \mu) + \beta

    The pairs are found by running the network once: a BatchNorm layer is folded if its input *is* the output of a
    convolution and both run once. The copy is then compared with the original on a small random batch. If a feature
    differs by more than 1e-4 of the largest one, the unfolded copy is returned with a logged warning.

    Args:
        backbone: a frozen backbone; unchanged.

    Raises:
        ConfigError: if the backbone is not frozen, because training needs its BatchNorm.
    """
    _check_frozen(backbone)
    folded = copy.deepcopy(backbone)
    probe = _probe(backbone)
    with torch.no_grad():
        pairs = _conv_batchnorm_pairs(folded, probe)
        for convolution, batchnorm in pairs:
            _replace(folded, convolution, fuse_conv_bn_eval(convolution, batchnorm).requires_grad_(False))
            _replace(folded, batchnorm, _rest_of(batchnorm))
        difference = _relative_difference(folded(probe), backbone(probe))
    if not difference <= _TOLERANCE:  # also when it is NaN
        _LOGGER.warning(
            "%s: folding BatchNorm changed the features by %.2g of their largest value (expected <= %.0e); "
            "the backbone stays unfolded and slower.",
            backbone.spec.name,
            difference,
            _TOLERANCE,
        )
        return copy.deepcopy(backbone)
    _LOGGER.info("%s: folded %d BatchNorm layers, features differ by %.1g", backbone.spec.name, len(pairs), difference)
    folded.stand_for(backbone.content_sha256())
    return folded.train(False)


def _check_frozen(backbone: Backbone) -> None:
    if not backbone.frozen:
        raise ConfigError(
            f"Only a frozen backbone can be prepared, {backbone.spec.name} trains (frozen=False); "
            "set frozen to true or leave the preparation out."
        )


def _probe(backbone: Backbone) -> torch.Tensor:
    size = backbone.spec.image_size if backbone.spec.fixed_image_size else min(backbone.spec.image_size, _PROBE_SIZE)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, size, size, generator=generator).to(backbone.mean)


def _conv_batchnorm_pairs(backbone: Backbone, probe: torch.Tensor) -> list[tuple[Any, Any]]:
    calls: list[tuple[nn.Module, Any, Any]] = []  # keeps the tensors alive, so that `is` is not misled by reused memory
    kinds = (nn.Conv2d, _BatchNorm)
    modules = [module for module in backbone.modules() if isinstance(module, kinds)]
    handles = [module.register_forward_hook(lambda *call: calls.append(call)) for module in modules]
    try:
        backbone(probe)
    finally:
        for handle in handles:
            handle.remove()
    called = [module for module, _, _ in calls]
    return [
        (convolution, batchnorm)
        for convolution, _, produced in calls
        for batchnorm, consumed, _ in calls
        if isinstance(convolution, nn.Conv2d) and isinstance(batchnorm, _BatchNorm) and consumed[0] is produced
        if called.count(convolution) == called.count(batchnorm) == 1 and batchnorm.track_running_stats
    ]


def _rest_of(batchnorm: Any) -> nn.Module:
    """Return the part of a BatchNorm layer after normalisation: nothing, or the activation of timm's BatchNormAct2d."""
    rest = [getattr(batchnorm, name) for name in ("drop", "act") if hasattr(batchnorm, name)]
    return nn.Sequential(*rest) if rest else nn.Identity()


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in root.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)


def _relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    scale = other.abs().max().clamp(min=torch.finfo(other.dtype).tiny)
    return float((one - other).abs().max() / scale)
