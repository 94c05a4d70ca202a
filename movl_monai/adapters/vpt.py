"""VPT: learned tokens, before the first block or before every block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from movl_monai.backbones import Backbone
from movl_monai.errors import ConfigError

from .base import Adapter, BlockHook

__all__ = ["VPT", "AppendTokens", "check_num_prompts", "check_sequence", "starting_tokens"]


class VPT(Adapter):
    r"""Append learned tokens to the sequence.

    .. math:: [x_\ell, Z_\ell] = L_\ell([x_{\ell-1}, Z_{\ell-1}]), \quad Z_0 = P_0 \quad\text{(shallow)} \qquad
              [x_\ell, \_] = L_\ell([x_{\ell-1}, P_{\ell-1}]) \quad\text{(deep)}

    It cannot start as the identity: every token takes a share of every attention from the first step on. It changes
    only the attention; if the appended tokens are masked from it, the other tokens equal the plain backbone's. The
    features are pooled from these, without the appended tokens.

    Args:
        backbone: a frozen plain ViT of timm or a CLIP ViT.
        num_prompts: p, tokens per block, from 1 to the number of image tokens.
        deep: whether new tokens replace the previous ones before every adapted block.
        blocks: numbers of the blocks to adapt; None adapts all. The tokens are appended before the first of them; a
            shallow prompt uses only that one.
        seed: of the tokens.

    Raises:
        ConfigError: if the backbone cannot host it, or ``num_prompts`` is out of range.

    Reference:
        Jia et al., Visual Prompt Tuning, ECCV 2022, arXiv 2203.12119, equations 4 to 8; tokens start uniformly as in
        the authors' code (Xavier, over patch size and width). Deviations: they are appended after the image tokens
        instead of between class token and image, which makes no difference without positions; they have no dropout. The
        variant for Swin, with tokens in every window, is not offered.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> VPT(TimmBackbone("test_vit", image_size=64), num_prompts=5, deep=True).num_parameters()
        1920
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_prompts: int = 10,
        deep: bool = True,
        blocks: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, blocks=blocks)
        check_sequence(self, "DVPT, AdaptFormer, LoRA, SSF or BitFit")
        self.num_appended = check_num_prompts(num_prompts, self)
        self.deep = deep
        generator = torch.Generator().manual_seed(seed)
        count = len(self.block_numbers) if deep else 1
        self.prompts = nn.ParameterList(starting_tokens(num_prompts, backbone, generator) for _ in range(count))

    @torch.jit.ignore
    def hooks(self) -> list[BlockHook]:
        """See :meth:`Adapter.hooks`."""
        hooks = super().hooks()
        hooks[self.first_block] = AppendTokens(self.prompts[0])
        if self.deep:
            for number, prompts in zip(self.block_numbers[1:], self.prompts[1:], strict=True):
                hooks[number] = ReplaceTokens(prompts)
        return hooks

    @torch.jit.ignore
    def first_prompts(self) -> nn.Parameter | None:
        """See :meth:`Adapter.first_prompts`."""
        first: nn.Parameter = self.prompts[0]
        return first

    @torch.jit.ignore
    def settings(self) -> str:
        """See :meth:`Adapter.settings`."""
        return self._described(num_prompts=self.num_appended, deep=self.deep)


class AppendTokens(BlockHook):
    """Append learned tokens (p, d) to a sequence, before a block."""

    def __init__(self, prompts: nn.Parameter) -> None:
        super().__init__()
        self.prompts = prompts

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`BlockHook.before`."""
        prompts = self.prompts.to(tokens.dtype).unsqueeze(0).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([tokens, prompts], dim=1)
        return tokens, tokens


class ReplaceTokens(BlockHook):
    """Replace the last p tokens of a sequence by learned ones (p, d), before a block."""

    def __init__(self, prompts: nn.Parameter) -> None:
        super().__init__()
        self.prompts = prompts

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`BlockHook.before`."""
        prompts = self.prompts.to(tokens.dtype).unsqueeze(0).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([tokens[:, : tokens.shape[1] - prompts.shape[1]], prompts], dim=1)
        return tokens, tokens


def starting_tokens(num_prompts: int, backbone: Backbone, generator: torch.Generator) -> nn.Parameter:
    r"""Draw tokens (p, d) uniformly from :math:`\pm\sqrt{6 / (3 \cdot \text{patch}^2 + d)}`, as in VPT."""
    width = backbone.token_path().layout.widths[0]
    bound = math.sqrt(6 / (3 * (backbone.spec.patch_size or 16) ** 2 + width))
    return nn.Parameter(torch.empty(num_prompts, width).uniform_(-bound, bound, generator=generator))


def check_sequence(adapter: Adapter, others: str) -> None:
    """Raise ConfigError unless tokens can be appended in the adapter's backbone."""
    if adapter.layout.kind != "sequence":
        raise ConfigError(
            f"{adapter.backbone_name} hosts no {type(adapter).__name__}: its blocks work on a map in windows, to which "
            f"no tokens can be appended. It hosts {others}; a plain ViT hosts {type(adapter).__name__}."
        )


def check_num_prompts(num_prompts: int, adapter: Adapter) -> int:
    """Return the number of prompts; raise ConfigError if it is below 1 or above the number of image tokens."""
    budget = min(adapter.layout.grids[number][0] * adapter.layout.grids[number][1] for number in adapter.block_numbers)
    if not 1 <= num_prompts <= budget:
        raise ConfigError(
            f"num_prompts must be between 1 and {budget}, the number of image tokens in the smallest adapted block of "
            f"{adapter.backbone_name}, got {num_prompts}; take fewer prompts or a larger image_size."
        )
    return int(num_prompts)
