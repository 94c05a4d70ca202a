"""Feature maps of a hierarchy, stage by stage, in a form that TorchScript can export."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from movl_monai.errors import ConfigError

__all__ = ["GivesMaps", "StageMaps", "map_channels", "stage_maps"]

_LOGGER = logging.getLogger(__name__)
_PROBE_SIZE = 64
_TOLERANCE = 1e-4


class GivesMaps(Protocol):
    """A backbone as far as its maps need it; see :class:`~movl_monai.backbones.base.Backbone`."""

    spec: Any
    encoder: Any
    mean: torch.Tensor

    def modules(self) -> Iterator[nn.Module]:
        """Return every module of it."""

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise images (B, 3, H, W) in [0, 1]."""

    def forward_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps of images in [0, 1], finest first."""


class StageMaps(nn.Module):
    """Run the stem and the stages of a network and return the outputs of some stages.

    The modules are the encoder's own, so it costs no memory. It never sets the mode of a layer, which is left to the
    backbone.

    Args:
        encoder: a network whose children run in sequence from the image to the last stage.
        names: dotted names of the stages of the maps, finest first; children of the encoder ("layer1") or of one of its
            containers ("blocks.2").

    Raises:
        ConfigError: if the names have another form.
    """

    def __init__(self, encoder: nn.Module, names: list[str]) -> None:
        super().__init__()
        container, stages = _container(encoder, names)
        children = list(encoder.named_children())
        first = [name for name, _ in children].index(container or names[0])
        self.stem = nn.Sequential(*[child for _, child in children[:first]])
        last = list(stages).index(names[-1])
        kept = list(stages.items())[: last + 1]
        self.stages = nn.ModuleList([stage for _, stage in kept])
        self.taken = [name in names for name, _ in kept]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps.

        Args:
            image: normalised, (B, 3, H, W).

        Returns:
            Maps (B, C_i, H_i, W_i), finest first.
        """
        x = self.stem(image)
        maps: list[torch.Tensor] = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if self.taken[number]:
                maps.append(x)
        return maps

    def keep(self, numbers: Sequence[int]) -> StageMaps:
        """Restrict the output to the maps of these numbers, and drop all stages after the last of them."""
        given = [position for position, taken in enumerate(self.taken) if taken]
        kept = {given[number] for number in numbers}
        self.stages = self.stages[: max(kept) + 1]
        self.taken = [position in kept for position in range(len(self.stages))]
        return self

    def train(self, mode: bool = True) -> StageMaps:
        """Keep the modes of the layers, which belong to the backbone."""
        self.training = mode
        return self


def stage_maps(backbone: GivesMaps) -> StageMaps | None:
    """Return the stages of a hierarchy; None if only the network's own ``forward_features`` gives its maps.

    The result is compared with ``forward_features`` on a small random batch.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> backbone = TimmBackbone("test_efficientnet", image_size=64)
        >>> maps = stage_maps(backbone)(backbone.normalize(torch.rand(1, 3, 64, 64)))
        >>> [tuple(one.shape[1:]) for one in maps]
        [(24, 16, 16), (32, 8, 8), (48, 4, 4), (64, 2, 2)]
    """
    encoder: Any = getattr(backbone.encoder, "trunk", backbone.encoder)
    names = _stage_names(encoder)
    if not names:
        return None
    image = _probe(backbone)
    try:
        maps = StageMaps(encoder, names)
        with torch.no_grad(), _evaluating(backbone):
            same = _alike(maps(backbone.normalize(image)), backbone.forward_features(image))
    except (ConfigError, RuntimeError, TypeError, ValueError, AttributeError):
        same = False  # a network that is not a plain sequence of stages
    if not same:
        _LOGGER.info("%s: its maps come from its own code, which TorchScript may not export.", backbone.spec.name)
        return None
    return maps


def map_channels(backbone: GivesMaps) -> list[int]:
    """Return the channels of the maps of ``forward_features``, finest first, by running it once on a small image.

    Raises:
        NotImplementedError: if the backbone only has pooled features.
    """
    with torch.no_grad(), _evaluating(backbone):
        return [int(one.shape[1]) for one in backbone.forward_features(_probe(backbone)[:1])]


class _evaluating:
    """Context in which a backbone is in eval mode, so that a probe does not change its statistics."""

    def __init__(self, backbone: GivesMaps) -> None:
        self.backbone = backbone
        self.modes = {module: module.training for module in backbone.modules()}

    def __enter__(self) -> None:
        for module in self.modes:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes.items():
            module.training = mode


def _probe(backbone: GivesMaps) -> torch.Tensor:
    size = backbone.spec.image_size if backbone.spec.fixed_image_size else min(backbone.spec.image_size, _PROBE_SIZE)
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(backbone.mean)


def _stage_names(encoder: Any) -> list[str]:
    """Return the dotted names of the last four stages, from timm's list or the structure of ResNets."""
    info = getattr(encoder, "feature_info", None)
    if info:
        return [str(one["module"]) for one in info if "module" in one][-4:]
    names = ["layer1", "layer2", "layer3", "layer4"]
    return names if all(hasattr(encoder, name) for name in names) else []


def _container(encoder: nn.Module, names: list[str]) -> tuple[str, dict[str, nn.Module]]:
    parents = {name.rpartition(".")[0] for name in names}
    if len(parents) != 1:
        raise ConfigError(f"The stages must be in one container, got {names}.")
    (parent,) = parents
    if "." in parent:
        raise ConfigError(f"The stages must be children of the encoder or of one child, got {names}.")
    prefix = f"{parent}." if parent else ""
    owner = encoder.get_submodule(parent) if parent else encoder
    stages = {f"{prefix}{name}": child for name, child in owner.named_children()}
    if missing := [name for name in names if name not in stages]:
        raise ConfigError(f"The encoder has no stages {missing}.")
    first = list(stages).index(names[0]) if not parent else 0
    return parent, dict(list(stages.items())[first:])


def _alike(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    if [value.shape for value in one] != [value.shape for value in other]:
        return False
    scale = max(float(value.abs().max()) for value in other)
    return all(float((a - b).abs().max()) <= _TOLERANCE * scale for a, b in zip(one, other, strict=True))
