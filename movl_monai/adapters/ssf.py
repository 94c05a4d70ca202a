"""SSF: scale and shift of the output of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from movl_monai.backbones import Backbone

from .layers import LayerAdapter, LayerChange

__all__ = ["SSF"]


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
