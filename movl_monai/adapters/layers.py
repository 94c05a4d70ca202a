"""Adapters that change the output of single layers inside the blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from movl_monai.backbones import Backbone, TokenPath
from movl_monai.backbones.token_path import InnerLayer
from movl_monai.errors import ConfigError

from .base import Adapter

__all__ = ["ChangedLayer", "LayerAdapter", "LayerChange"]

_KINDS = (nn.Linear, nn.LayerNorm, nn.Conv2d)


class LayerChange(nn.Module):
    """Trainable change of one layer; a subclass defines the change, and how it is folded into the layer."""

    def forward(self, layer_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return the changed output, from the input and the output of the frozen layer."""
        raise NotImplementedError

    @torch.jit.ignore
    def fold(self, layer: Any) -> None:
        """Fold the change into weight and bias of a layer, so that the layer computes the changed output."""
        raise NotImplementedError


class ChangedLayer(nn.Module):
    """Frozen layer followed by its change."""

    def __init__(self, layer: nn.Module, change: LayerChange) -> None:
        super().__init__()
        self.layer = layer
        self.change = change

    def forward(self, layer_input: torch.Tensor) -> torch.Tensor:
        """Compute the changed output."""
        return self.change(layer_input, self.layer(layer_input))


class LayerAdapter(Adapter):
    """Adapter made of changes of linear layers, LayerNorms and convolutions.

    All of them can be merged: :meth:`merged` returns a plain backbone with the same output at no extra cost.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        changes: nn.ModuleDict

    @torch.jit.ignore
    def attach(self, path: TokenPath) -> None:
        """See :meth:`Adapter.attach`."""
        super().attach(path)
        path.open_attention()
        for inner in list(path.inner_layers(_KINDS)):
            if _key(inner.name) in self.changes:
                path.replace(inner.name, ChangedLayer(inner.layer, self.changes[_key(inner.name)]))  # type: ignore[arg-type]

    @torch.jit.ignore
    @torch.no_grad()
    def merged(self, backbone: Backbone) -> Backbone:
        """Return a copy of a backbone with the changes folded into its weights and with its own hash.

        Args:
            backbone: the backbone of the adapter's training; unchanged.
        """
        result = copy.deepcopy(backbone)
        path = result.token_path()
        super().attach(path)
        # opened attention layers share their tensors with the encoder, which are therefore changed in place
        path.open_attention()
        for inner in path.inner_layers(_KINDS):
            if _key(inner.name) in self.changes:
                self.changes[_key(inner.name)].fold(inner.layer)  # type: ignore[operator]
        _take_new_biases(result.encoder, path.encoder)
        return result

    def _build(self, backbone: Backbone, make: Callable[[InnerLayer], LayerChange | None]) -> None:
        """Make the changes of all layers in the adapted blocks, and around them if all blocks are adapted."""
        path = backbone.token_path()
        path.open_attention()
        everywhere = len(self.block_numbers) == self.layout.depth
        changes: dict[str, nn.Module] = {}
        for inner in path.inner_layers(_KINDS):
            inside = everywhere if inner.block is None else inner.block in self.block_numbers
            change = make(inner) if inside and inner.layer.weight is not None else None
            if change is not None:
                changes[_key(inner.name)] = change
        if not changes:
            raise ConfigError(
                f"{backbone.spec.name} hosts no {type(self).__name__}: its blocks have no such layers "
                f"({', '.join(sorted({type(m).__name__ for m in path.blocks[0].modules()}))}); choose another adapter."
            )
        self.changes = nn.ModuleDict(changes)


def _key(name: str) -> str:
    """Return a layer's name without dots, which ModuleDict does not accept."""
    return name.replace(".", "_")


def _take_new_biases(encoder: nn.Module, changed: nn.Module) -> None:
    """Give the encoder the biases that folding added to layers without one."""
    known = dict(encoder.named_modules())
    for name, layer in changed.named_modules():
        bias = getattr(layer, "bias", None)
        if isinstance(layer, _KINDS) and bias is not None and getattr(known.get(name), "bias", bias) is None:
            known[name].bias = bias
