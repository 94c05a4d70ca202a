"""Base classes of the adapters: their backbone, their blocks, and how they attach."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from movl_monai.backbones import Backbone, TokenPath
from movl_monai.errors import ConfigError

__all__ = ["Adapter", "BlockHook", "check_blocks", "check_frozen", "last_blocks", "uniform_rows"]


class BlockHook(nn.Module):
    """Hook around one block; this one leaves the tokens unchanged.

    Tokens are (B, N, d), or (B, H, W, d) in a hierarchy.
    """

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the block's input tokens, and the values that :meth:`after` needs."""
        return tokens, tokens

    def after(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the next block's input tokens, from the block's output and the kept values."""
        return tokens


class Adapter(nn.Module):
    """Trainable parameters inside the blocks of a frozen Transformer.

    An adapter is built for a backbone, of which it reads only sizes, and both are given to a network. There it attaches
    to a :class:`~movl_monai.backbones.TokenPath`, modules that share the backbone's tensors: through one hook per block
    (:meth:`hooks`), by wrapping layers (:meth:`attach`), or both. Its parameters are its own; the backbone keeps its
    names, hash and features. After construction nothing in an adapter is random or depends on train and eval mode (a
    deviation from papers with dropout).

    Args:
        backbone: a frozen backbone with blocks, or one of the same architecture.
        blocks: numbers of the blocks to adapt, from 0; None adapts all.

    Attributes:
        num_appended: number of tokens added to the sequence.
        averages_appended: True if the features are the mean over the pooled feature and the appended tokens.

    Raises:
        ConfigError: if the backbone hosts no adapters, is not frozen, or lacks the blocks.
    """

    def __init__(self, backbone: Backbone, *, blocks: Sequence[int] | None = None) -> None:
        super().__init__()
        self.layout = backbone.token_path().layout
        check_frozen(backbone)
        self.block_numbers = check_blocks(blocks, self.layout.depth)
        self.backbone_name = backbone.spec.name
        self.backbone_parameters = sum(parameter.numel() for parameter in backbone.parameters())
        self.num_appended = 0
        self.averages_appended = False

    @property
    def first_block(self) -> int:
        """Number of the first block whose input or inside this adapter changes; all layers before it are frozen."""
        return self.block_numbers[0]

    @torch.jit.ignore
    def hooks(self) -> list[BlockHook]:
        """Return one hook per block of the backbone, over this adapter's modules."""
        return [BlockHook() for _ in range(self.layout.depth)]

    @torch.jit.ignore
    def first_prompts(self) -> nn.Parameter | None:
        """Return the tokens (m, d) that it appends before its first block, None if it appends none."""
        return None

    @torch.jit.ignore
    def attach(self, path: TokenPath) -> None:
        """Wrap layers of the path; an adapter with only hooks does nothing.

        Raises:
            ConfigError: if the path is of another architecture than the adapter's.
        """
        if path.layout != self.layout:
            raise ConfigError(
                f"This {type(self).__name__} was built for {self.backbone_name} with {self.layout.depth} blocks of "
                f"width {self.layout.widths[0]} and {self.layout.grids[0]} tokens, the network's backbone has "
                f"{path.layout.depth} of {path.layout.widths[0]} and {path.layout.grids[0]}; build it for that one."
            )

    @torch.jit.ignore
    def settings(self) -> str:
        """Return a description of the settings that a checkpoint must share, besides shapes."""
        return type(self).__name__

    @torch.jit.ignore
    def num_parameters(self) -> int:
        """Return the number of trainable parameters, including those that no stage trains now."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.jit.ignore
    def share_of_backbone(self) -> float:
        """Return the share of trainable parameters relative to the backbone's, in percent."""
        return 100 * self.num_parameters() / self.backbone_parameters

    def _described(self, **options: object) -> str:
        shown = dict(options)
        if len(self.block_numbers) < self.layout.depth:
            shown["blocks"] = list(self.block_numbers)
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in shown.items())})"


def check_blocks(blocks: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Return the numbers of the blocks, sorted.

    Raises:
        ConfigError: if they are empty, repeated, or do not exist.
    """
    if blocks is None:
        return tuple(range(depth))
    numbers = sorted(int(number) for number in blocks)
    if not numbers or len(set(numbers)) < len(numbers) or numbers[0] < 0 or numbers[-1] >= depth:
        raise ConfigError(
            f"blocks must be different numbers from 0 to {depth - 1} (the backbone has {depth} blocks), "
            f"got {list(blocks)}; null takes all."
        )
    return tuple(numbers)


def last_blocks(backbone: Backbone, *, share: float = 1 / 3) -> list[int]:
    """Return the numbers of the last blocks of a backbone, at least one; the blocks before them can be cached.

    Args:
        backbone: a Transformer.
        share: of all blocks, in (0, 1].

    Raises:
        ConfigError: if the share is out of range, or the backbone has no blocks that host adapters.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> last_blocks(TimmBackbone("test_vit", image_size=64))
        [4, 5]
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share must be in (0, 1], got {share}; a third is 0.333.")
    depth = backbone.token_path().layout.depth
    return list(range(depth - max(1, round(share * depth)), depth))


def uniform_rows(shape: tuple[int, ...], *, fan_in: int, generator: torch.Generator) -> nn.Parameter:
    r"""Draw a parameter uniformly from :math:`\pm 1 / \sqrt{\text{fan\_in}}`, as in ``nn.Linear``."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def check_frozen(backbone: Backbone) -> None:
    """Raise ConfigError if a backbone is not frozen."""
    if not backbone.frozen:
        raise ConfigError(
            f"An adapter needs a frozen backbone, {backbone.spec.name} trains (frozen=False); set frozen to true, or "
            "the adapter to null for full fine-tuning."
        )
