"""LoRA: low-rank changes of the attention's projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import Backbone
from movl_monai.backbones.token_path import InnerLayer
from movl_monai.errors import ConfigError

from .base import uniform_rows
from .layers import LayerAdapter, LayerChange

__all__ = ["LoRA"]

Target = Literal["q", "k", "v", "proj"]
_FUSED = ("q", "k", "v")


class LoRA(LayerAdapter):
    r"""Add a low-rank product to frozen projections of every attention.

    .. math:: y = W x + \tfrac{\alpha}{r} B A x

    :math:`A` (r, d) is random, :math:`B` (d, r) is zero, so it starts as the identity. Queries, keys and values have
    separate pairs, although the encoders compute them in one layer.

    Args:
        backbone: a frozen ViT or Swin of timm, or a CLIP ViT.
        rank: r, from 1 to the width.
        alpha: :math:`\alpha` > 0; None uses r, a factor of 1.
        targets: projections to adapt, of "q", "k", "v" and "proj" (the output).
        blocks: numbers of the blocks to adapt; None adapts all.
        seed: of :math:`A`.

    Raises:
        ConfigError: if the backbone cannot host it, or an option is out of range.

    Reference:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv 2106.09685, equation 3; query
        and value are adapted there as here. Deviations: no dropout before A; A starts uniformly, as in the authors'
        code. `peft` is not used, because it adapts a fused query-key-value layer as one matrix and would rename the
        backbone's tensors.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> LoRA(TimmBackbone("test_vit", image_size=64), rank=2).num_parameters()
        3072
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        rank: int = 8,
        alpha: float | None = None,
        targets: Sequence[Target] = ("q", "v"),
        blocks: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, blocks=blocks)
        width = min(self.layout.widths)
        if not 1 <= rank <= width:
            raise ConfigError(f"rank must be between 1 and the width {width}, got {rank}.")
        if alpha is not None and not alpha > 0:
            raise ConfigError(f"alpha must be > 0, got {alpha}.")
        if not targets or not set(targets) <= {*_FUSED, "proj"} or len(set(targets)) < len(targets):
            raise ConfigError(f"targets must be different ones of 'q', 'k', 'v', 'proj', got {list(targets)}.")
        self.rank = rank
        self.scale = 1.0 if alpha is None else float(alpha) / rank
        self.targets = tuple(sorted(targets))
        generator = torch.Generator().manual_seed(seed)

        def make(inner: InnerLayer) -> LayerChange | None:
            parts = _parts_of(inner.name, self.targets)
            return None if parts is None else LowRankChange(inner.layer, parts, rank, self.scale, generator)

        self._build(backbone, make)

    @torch.jit.ignore
    def settings(self) -> str:
        """See :meth:`Adapter.settings`."""
        return self._described(rank=self.rank, scale=self.scale, targets="+".join(self.targets))


class LowRankChange(LayerChange):
    """Low-rank change of some of the equal parts of a layer's output.

    Args:
        layer: a linear layer.
        parts: for each part of the output, whether it changes.
        rank: of every part's change.
        scale: factor of the change.
        generator: the seeded random generator.
    """

    def __init__(self, layer: Any, parts: Sequence[bool], rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.parts = [bool(part) for part in parts]
        self.rank = rank
        self.scale = scale
        count, size = sum(self.parts), layer.out_features // len(self.parts)
        self.down = uniform_rows((count * rank, layer.in_features), fan_in=layer.in_features, generator=generator)
        self.up = nn.Parameter(torch.zeros(count, size, rank))

    def forward(self, layer_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """See :meth:`LayerChange.forward`."""
        return output + self.scale * F.linear(F.linear(layer_input, self.down), self.spread())

    def spread(self) -> torch.Tensor:
        """Return B of all parts as one matrix (out_features, count * rank), zero for parts that do not change."""
        count, size, rank = self.up.shape
        rows: list[torch.Tensor] = []
        number = 0
        for changes in self.parts:
            if changes:
                rows.append(F.pad(self.up[number], [number * rank, (count - 1 - number) * rank]))
                number += 1
            else:
                rows.append(self.up.new_zeros([size, count * rank]))
        return torch.cat(rows)

    @torch.jit.ignore
    def fold(self, layer: Any) -> None:
        """See :meth:`LayerChange.fold`."""
        layer.weight.add_(self.scale * self.spread() @ self.down)


def _parts_of(name: str, targets: Sequence[str]) -> list[bool] | None:
    """Return a flag per part of a layer's output, True for a changed part; None for a layer that is not a target."""
    if name.endswith("attn.qkv"):
        parts = [part in targets for part in _FUSED]
        return parts if any(parts) else None
    return [True] if name.endswith("attn.proj") and "proj" in targets else None
