"""AdaptFormer: a bottleneck parallel to the MLP of every block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import Backbone, TokenPath
from movl_monai.errors import ConfigError

from .base import Adapter, uniform_rows

__all__ = ["AdaptFormer"]


class AdaptFormer(Adapter):
    r"""Add a scaled bottleneck branch to the MLP of every block.

    .. math:: x_\ell = \mathrm{MLP}(\mathrm{LN}(x'_\ell)) + s \cdot \mathrm{ReLU}(\mathrm{LN}(x'_\ell) W_{down})
              W_{up} + x'_\ell

    :math:`W_{up}` and both biases start at zero: the identity.

    Args:
        backbone: a frozen ViT or Swin of timm, or a CLIP ViT.
        bottleneck: width of the branch, at least 1 (the paper's 64).
        scale: s > 0 (the paper's 0.1).
        blocks: numbers of the blocks to adapt; None adapts all.
        seed: of :math:`W_{down}`.

    Raises:
        ConfigError: if the backbone cannot host it, or an option is out of range.

    Reference:
        Chen et al., AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition, NeurIPS 2022, arXiv
        2205.13535, equations 1 and 2; LN is the block's own, as in the equations. Deviations: no dropout in the branch;
        in blocks with LayerScale (DINOv2), it scales the branch together with the MLP.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> AdaptFormer(TimmBackbone("test_vit", image_size=64), bottleneck=4).num_parameters()
        3480
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        bottleneck: int = 64,
        scale: float = 0.1,
        blocks: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, blocks=blocks)
        if bottleneck < 1:
            raise ConfigError(f"bottleneck must be at least 1, got {bottleneck}; the paper's is 64.")
        if not scale > 0:
            raise ConfigError(f"scale must be > 0, got {scale}; the paper's is 0.1.")
        if not all(hasattr(block, "mlp") for block in backbone.token_path().blocks):
            raise ConfigError(f"{backbone.spec.name} hosts no AdaptFormer: its blocks have no MLP of their own.")
        self.scale = float(scale)
        generator = torch.Generator().manual_seed(seed)
        widths = [self.layout.widths[number] for number in self.block_numbers]
        self.branches = nn.ModuleList(Branch(width, bottleneck, self.scale, generator) for width in widths)

    @torch.jit.ignore
    def attach(self, path: TokenPath) -> None:
        """See :meth:`Adapter.attach`."""
        super().attach(path)
        for number, branch in zip(self.block_numbers, self.branches, strict=True):
            block = path.blocks[number]
            block.mlp = ParallelMLP(block.mlp, branch)  # type: ignore[arg-type]

    @torch.jit.ignore
    def settings(self) -> str:
        """See :meth:`Adapter.settings`."""
        return self._described(scale=self.scale)


class Branch(nn.Module):
    """Bottleneck of one block."""

    def __init__(self, width: int, bottleneck: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = scale
        self.down = uniform_rows((bottleneck, width), fan_in=width, generator=generator)
        self.down_bias = nn.Parameter(torch.zeros(bottleneck))
        self.up = nn.Parameter(torch.zeros(width, bottleneck))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the addition to the MLP's output, of the tokens' shape."""
        return self.scale * F.linear(F.relu(F.linear(tokens, self.down, self.down_bias)), self.up, self.up_bias)


class ParallelMLP(nn.Module):
    """Frozen MLP with a parallel branch."""

    def __init__(self, mlp: nn.Module, branch: Branch) -> None:
        super().__init__()
        self.mlp = mlp
        self.branch = branch

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the sum of both."""
        return self.mlp(tokens) + self.branch(tokens)
