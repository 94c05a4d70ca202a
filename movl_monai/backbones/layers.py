"""Features of several depths of a network: its blocks or stages, each brought to unit length and concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.errors import ConfigError

from .stage_maps import GivesMaps, map_channels, stage_maps
from .token_path import TokenPath

__all__ = ["BlockReadout", "Layers", "StageLayers", "TokenLayers", "check_layers", "read_layers"]

Layers = Literal["last", "all"] | Sequence[int]


class HasLayers(GivesMaps, Protocol):
    """A backbone as far as its layers need it."""

    def token_path(self, *, own: bool = False) -> TokenPath:
        """Return the steps of a Transformer; ConfigError for another network."""


class BlockReadout(nn.Module):
    r"""Features from the tokens after some blocks of a Transformer.

    With the class token :math:`c_l` and the image's tokens :math:`t_{l,i}` after block :math:`l`, neither normalised,

    .. math:: z = [c_l / |c_l|, \; \bar t_l / |\bar t_l|]_l \qquad \bar t_l = \tfrac{1}{N} \sum_i t_{l,i}

    Registers and tokens that an adapter appends are ignored. Without a class token, a plain ViT gives only
    :math:`\bar t_l`, and so does a hierarchy, after the last block of each of its stages.

    Args:
        path: the steps of the Transformer; only its sizes are read.
        layers: "all", or numbers of the blocks of a plain ViT, of the stages of a hierarchy.
        name: of the network, for messages.

    Attributes:
        numbers: of the layers used.
        num_layers: number of layers of the network.
        taken: for each block, whether it is used.
        sizes: for each block, its number of features.
        last: number of the last block used.

    Raises:
        ConfigError: if the layers do not exist.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        numbers: Any
        shapes: Any

    def __init__(self, path: TokenPath, layers: Layers, *, name: str) -> None:
        super().__init__()
        layout = path.layout
        self.is_sequence = layout.kind == "sequence"
        self.num_prefix = layout.num_prefix
        # registers are in front of the image's tokens too
        self.has_class_token = bool(getattr(path.encoder, "has_class_token", layout.num_prefix > 0))
        ends = list(range(layout.depth)) if self.is_sequence else _stage_ends(layout.stages)
        self.num_layers = len(ends)
        what = "blocks" if self.is_sequence else "stages"
        self.numbers = check_layers(layers, self.num_layers, name=name, what=what)
        self.taken = [block in {ends[number] for number in self.numbers} for block in range(layout.depth)]
        self.last = ends[self.numbers[-1]]
        widths = zip(self.taken, layout.widths, strict=True)
        self.sizes = [width * (1 + self.has_class_token) if taken else 0 for taken, width in widths]
        grids = [(-1,) if self.is_sequence else grid for grid in layout.grids]
        self.shapes = [(*grid, width) for grid, width in zip(grids, layout.widths, strict=True)]

    def forward(self, tokens: torch.Tensor, own: int) -> torch.Tensor:
        """Compute the features of one block.

        Args:
            tokens: output of the block, (B, N, d), or (B, H, W, d) in a hierarchy.
            own: number of the network's own tokens in a sequence, which precede appended ones.

        Returns:
            (B, 2 d) with a class token, (B, d) without.
        """
        if not self.is_sequence:
            return F.normalize(tokens.mean(dim=(1, 2)), dim=1)
        patches = F.normalize(tokens[:, self.num_prefix : own].mean(dim=1), dim=1)
        if not self.has_class_token:
            return patches
        return torch.cat([F.normalize(tokens[:, 0], dim=1), patches], dim=1)

    @torch.jit.ignore
    def pack(self, tokens: torch.Tensor, parts: list[torch.Tensor]) -> torch.Tensor:
        """Pack tokens and the features of the blocks before them into one tensor (B, ...), for a cache."""
        return torch.cat([tokens.flatten(1), *parts], dim=1) if parts else tokens

    @torch.jit.ignore
    def unpack(self, packed: torch.Tensor, start: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the input tokens of block ``start``, and the features of the blocks before it."""
        size = sum(self.sizes[:start])
        if not size:
            return packed, []
        return packed[:, :-size].unflatten(1, self.shapes[start - 1]), [packed[:, -size:]]


class TokenLayers(nn.Module):
    """Compute the features of some blocks of a Transformer in one pass, which ends after the last of them.

    Args:
        path: of the backbone's own modules.
        readout: features of this path.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        numbers: Any

    def __init__(self, path: TokenPath, readout: BlockReadout) -> None:
        super().__init__()
        self.path = path
        self.readout = readout
        self.numbers = readout.numbers
        self.num_layers = readout.num_layers
        self.num_features = sum(readout.sizes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features (B, num_features) of normalised images (B, 3, H, W)."""
        tokens = self.path.embed(image)
        own = tokens.shape[1]
        parts: list[torch.Tensor] = []
        for number, (entry, block) in enumerate(zip(self.path.entries, self.path.blocks)):  # noqa: B905 - TorchScript
            if number <= self.readout.last:
                tokens = block(entry(tokens))
                if self.readout.taken[number]:
                    parts.append(self.readout(tokens, own))
        return torch.cat(parts, dim=1)


class StageLayers(nn.Module):
    """Compute the means of some maps of a hierarchy, each brought to unit length.

    Args:
        maps: normalised images to maps (B, C_i, H_i, W_i).
        numbers: of the stages of the maps.
        num_layers: number of stages of the network.
        num_features: channels of all maps.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        numbers: Any

    def __init__(self, maps: nn.Module, numbers: tuple[int, ...], *, num_layers: int, num_features: int) -> None:
        super().__init__()
        self.maps = maps
        self.numbers = numbers
        self.num_layers = num_layers
        self.num_features = num_features

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features (B, num_features) of normalised images (B, 3, H, W)."""
        return torch.cat([F.normalize(one.mean(dim=(2, 3)), dim=1) for one in self.maps(image)], dim=1)


class IntermediateMaps(nn.Module):
    """Maps of a timm hierarchy that is not a plain sequence of stages; TorchScript cannot export it.

    Args:
        encoder: with ``forward_intermediates``.
        indices: of the maps, in timm's numbering.
    """

    def __init__(self, encoder: Any, indices: list[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.indices = indices

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps (B, C_i, H_i, W_i) of normalised images, finest first."""
        return list(
            self.encoder.forward_intermediates(
                image, indices=self.indices, output_fmt="NCHW", stop_early=True, intermediates_only=True
            )
        )


def read_layers(backbone: HasLayers, layers: Layers) -> TokenLayers | StageLayers | None:
    """Return a module for the features of some layers, over a backbone's own modules; None for its pooled features.

    Args:
        backbone: with its encoder.
        layers: "last" for the pooled features, "all", or numbers from 0: of the blocks of a plain ViT, of the maps of
            ``forward_features`` (at most four) of a hierarchy.

    Raises:
        ConfigError: if the layers do not exist, or only the network's output is available.
    """
    if isinstance(layers, str) and layers == "last":
        return None
    name = backbone.spec.name
    try:
        path = backbone.token_path(own=True)
    except ConfigError:  # not a Transformer with known blocks
        return _stage_layers(backbone, layers)
    return TokenLayers(path, BlockReadout(path, layers, name=name))


def check_layers(layers: Layers, count: int, *, name: str, what: str) -> tuple[int, ...]:
    """Return the numbers of layers, sorted.

    Raises:
        ConfigError: if they are empty, repeated, or do not exist.

    Example:
        >>> check_layers([3, 1], 4, name="resnet18", what="stages")
        (1, 3)
    """
    if isinstance(layers, str) and layers == "all":
        return tuple(range(count))
    numbers = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers) or min(numbers) < 0 or max(numbers) >= count:
        raise ConfigError(
            f"layers must be 'last', 'all' or a list of different numbers from 0 to {count - 1} ({name} has {count} "
            f"{what}), got {layers!r}."
        )
    return tuple(sorted(numbers))


def _stage_layers(backbone: HasLayers, layers: Layers) -> StageLayers:
    name, strides = backbone.spec.name, backbone.spec.strides
    encoder: Any = getattr(backbone.encoder, "trunk", backbone.encoder)
    found = stage_maps(backbone) if strides else None
    hierarchy = len(set(strides)) > 1 and hasattr(encoder, "forward_intermediates")
    if found is None and not hierarchy:
        raise ConfigError(
            f"{name} can be read at its end only: it is neither a hierarchy with maps of several strides nor a ViT "
            "whose blocks are known; set layers to 'last' or choose another backbone."
        )
    channels = map_channels(backbone)
    numbers = check_layers(layers, len(channels), name=name, what="stages")
    first = len(getattr(encoder, "feature_info", ())) - len(channels)
    maps = IntermediateMaps(encoder, [first + one for one in numbers]) if found is None else found.keep(numbers)
    num_features = sum(channels[number] for number in numbers)
    return StageLayers(maps, numbers, num_layers=len(channels), num_features=num_features)


def _stage_ends(stages: Sequence[int]) -> list[int]:
    """Return the number of the last block of each stage."""
    return [block for block in range(len(stages)) if block + 1 == len(stages) or stages[block + 1] != stages[block]]
