"""BitFit: training of the biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from movl_monai.backbones import Backbone

from .layers import LayerAdapter, LayerChange

__all__ = ["BitFit"]


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
