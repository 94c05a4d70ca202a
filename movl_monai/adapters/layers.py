"""Adapters that change single layers inside the blocks: SSF, scale and shift of the output; BitFit, the biases."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from movl_monai.backbones import Backbone, TokenPath
from movl_monai.backbones.token_path import InnerLayer
from movl_monai.errors import ConfigError

from .base import Adapter

__all__ = ["BitFit", "ChangedLayer", "LayerAdapter", "LayerChange", "SSF"]

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


class SSF(LayerAdapter):
    r"""Scale and shift the output of every linear layer, LayerNorm and convolution, per channel.

    .. math:: y = \gamma \odot x + \beta

    :math:`\gamma` is one and :math:`\beta` zero at the start: the identity. With ``blocks=None`` the patch embedding,
    the patch merging and the last LayerNorm are included, as in the paper; with chosen blocks only their layers are.

    Args:
        backbone: a frozen ViT or Swin of timm, or a CLIP ViT.
        blocks: numbers of the blocks to adapt; None adapts all, and the layers around them.

    Raises:
        ConfigError: if the backbone cannot host it.

    Reference:
        Lian et al., Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning, NeurIPS 2022, arXiv
        2210.08823, equations 3 and 4 (merging). Deviation: the authors draw both around one and zero.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> adapter = SSF(TimmBackbone("test_vit", image_size=64), blocks=[5])
        >>> sorted(adapter.changes)[:2]
        ['blocks_5_attn_proj', 'blocks_5_attn_qkv']
    """

    def __init__(self, backbone: Backbone, *, blocks: Sequence[int] | None = None) -> None:
        super().__init__(backbone, blocks=blocks)
        self._build(backbone, lambda inner: ScaleAndShift(inner.layer))

    @torch.jit.ignore
    def settings(self) -> str:
        """See :meth:`Adapter.settings`."""
        return self._described()


class ScaleAndShift(LayerChange):
    """Scale and shift per channel; the channels are last, or second after a convolution."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        channels = layer.weight.shape[0]
        shape = (channels, 1, 1) if isinstance(layer, nn.Conv2d) else (channels,)
        self.scale = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, layer_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """See :meth:`LayerChange.forward`."""
        return torch.addcmul(self.shift, self.scale, output)

    @torch.jit.ignore
    def fold(self, layer: Any) -> None:
        """See :meth:`LayerChange.fold`."""
        scale, shift = self.scale.flatten(), self.shift.flatten()
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        if layer.bias is None:
            layer.bias = nn.Parameter(shift.clone(), requires_grad=False)
        else:
            layer.bias.mul_(scale).add_(shift)


class BitFit(LayerAdapter):
    r"""Train a change of every bias of linear layers, LayerNorms and convolutions.

    .. math:: y = W x + b + \Delta b

    The changes start at zero, the identity, and are kept apart from the frozen biases, so that the backbone stays
    frozen and the checkpoint small. Training :math:`\Delta b` is training :math:`b`. With ``blocks=None`` the biases
    around the blocks (patch embedding, last LayerNorm) are included.

    Args:
        backbone: a frozen ViT or Swin of timm, or a CLIP ViT.
        blocks: numbers of the blocks to adapt; None adapts all, and the layers around them.

    Raises:
        ConfigError: if the backbone cannot host it or has no biases.

    Reference:
        Ben Zaken et al., BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
        Language-models, ACL 2022, arXiv 2106.10199. Weight decay, if the optimiser has any, pulls to the pretrained
        biases and not to zero. Swin's table of relative positions is not a bias of a layer and is unchanged.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> backbone = TimmBackbone("test_vit", image_size=64)
        >>> biases = sum(p.numel() for name, p in backbone.named_parameters() if name.endswith("bias"))
        >>> BitFit(backbone).num_parameters() == biases
        True
    """

    def __init__(self, backbone: Backbone, *, blocks: Sequence[int] | None = None) -> None:
        super().__init__(backbone, blocks=blocks)
        self._build(backbone, lambda inner: None if inner.layer.bias is None else BiasChange(inner.layer))

    @torch.jit.ignore
    def settings(self) -> str:
        """See :meth:`Adapter.settings`."""
        return self._described()


class BiasChange(LayerChange):
    """Change of a bias."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        channels = layer.weight.shape[0]
        self.bias = nn.Parameter(torch.zeros((channels, 1, 1) if isinstance(layer, nn.Conv2d) else (channels,)))

    def forward(self, layer_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """See :meth:`LayerChange.forward`."""
        return output + self.bias

    @torch.jit.ignore
    def fold(self, layer: Any) -> None:
        """See :meth:`LayerChange.fold`."""
        layer.bias.add_(self.bias.flatten())
