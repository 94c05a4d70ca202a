"""Transformers in steps, from image to tokens, through blocks, to features; adapters attach to these steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch
from torch import nn

__all__ = ["InnerLayer", "TokenLayout", "TokenPath", "share_tensors"]

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Layout of the tokens in the blocks of a Transformer.

    Args:
        kind: "sequence" (B, N, d), to which tokens can be appended, or "map" (B, H, W, d) of a hierarchy.
        widths: d of every block.
        grids: (H, W) of the image's tokens in every block.
        stages: number of the stage of every block; 0 everywhere in a plain ViT.
        num_prefix: number of tokens before the image's tokens (class token, registers).
        num_features: length of the pooled feature vector.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> layout = TimmBackbone("test_vit", image_size=64).token_path().layout
        >>> layout.kind, layout.depth, layout.grids[0], layout.num_prefix
        ('sequence', 6, (4, 4), 1)
    """

    kind: Literal["sequence", "map"]
    widths: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    stages: tuple[int, ...]
    num_prefix: int
    num_features: int

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.widths)


class InnerLayer(NamedTuple):
    """Layer inside the encoder: its name, the layer, and the number of its block, None outside of all blocks."""

    name: str
    layer: nn.Module
    block: int | None


class TokenPath(nn.Module):
    """Steps of a Transformer, over modules that share all tensors with their backbone.

    The modules are copies, but their parameters and buffers are the backbone's own. An adapter can therefore replace
    layers here by wrappers without changing the backbone. The backbone's features, its names in a ``state_dict`` and
    its hash stay the same. Weights load as before, and the plain branch of a network is free of adapters. Forward hooks
    on the backbone itself would need a switch for the plain branch, and TorchScript and ``torch.export`` do not keep
    them; wrappers inside of it would rename its tensors.

    It owns the loop over the blocks and uses the encoder's own methods before and after it. A subclass defines
    :meth:`embed`, :meth:`pool` and :meth:`read`.

    Args:
        encoder: sharing its tensors with a backbone's; see :func:`share_tensors`.
        layout: of the tokens.
        entries: module before each block (patch merging of a hierarchy), else the identity.
        blocks: the encoder's blocks.
        reads_tokens: whether :meth:`read` exists for this encoder.
        num_pooled: number of first tokens that :meth:`pool` reads, if it reads no others; 0 for all.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        encoder: Any
        layout: TokenLayout

    def __init__(
        self,
        encoder: nn.Module,
        layout: TokenLayout,
        *,
        entries: Sequence[nn.Module],
        blocks: Sequence[nn.Module],
        reads_tokens: bool,
        num_pooled: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.layout = layout
        self.entries = nn.ModuleList(entries)
        self.blocks = nn.ModuleList(blocks)
        self.reads_tokens = reads_tokens
        self.num_pooled = num_pooled

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the tokens before the first block from normalised images (B, 3, H, W)."""
        raise NotImplementedError

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the features (B, num_features) from the tokens after the last block."""
        raise NotImplementedError

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute features (B, M, num_features) of single tokens (B, M, d), each as if it were the class token."""
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features of normalised images (B, 3, H, W), as the encoder does."""
        tokens = self.embed(image)
        for entry, block in zip(self.entries, self.blocks):  # noqa: B905 - TorchScript knows no `strict`
            tokens = block(entry(tokens))
        return self.pool(tokens)

    @torch.jit.ignore
    def inner_layers(self, kinds: tuple[type[nn.Module], ...]) -> Iterator[InnerLayer]:
        """Yield every layer of these kinds in the encoder, in the order of its modules."""
        owners = {id(part): index for index, block in enumerate(self.blocks) for part in block.modules()}
        # the module before a block belongs to the block
        owners |= {id(part): index for index, entry in enumerate(self.entries) for part in entry.modules()}
        for name, layer in self.encoder.named_modules():
            if isinstance(layer, kinds):
                yield InnerLayer(name, layer, owners.get(id(layer)))

    @torch.jit.ignore
    def replace(self, name: str, layer: nn.Module) -> None:
        """Replace a layer of the encoder by a wrapper."""
        parent, _, child = name.rpartition(".")
        setattr(self.encoder.get_submodule(parent), child, layer)

    @torch.jit.ignore
    def open_attention(self) -> None:
        """Turn the linear layers of every attention into called modules, which most encoders already have."""


def share_tensors(module: _Module) -> _Module:
    """Return a copy of a module that shares the parameters and buffers of the original.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> twin = share_tensors(layer)
        >>> twin is layer, twin.weight is layer.weight
        (False, True)
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, memo)
