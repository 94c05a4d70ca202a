"""DVPT: prompts that attend to the sample in a bottleneck before they enter the frozen attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import Backbone
from movl_monai.errors import ConfigError

from .base import Adapter, BlockHook, uniform_rows
from .vpt import AppendTokens, check_num_prompts, starting_tokens

__all__ = ["DVPT", "DynamicPrompts", "MapHook", "ReleasedMapHook", "SequenceHook", "StaticHook", "block_groups"]


class DVPT(Adapter):
    r"""Dynamic visual prompts: a few queries attend to the sample's tokens in a bottleneck and become prompts.

    .. math:: z = \mathrm{GELU}(f W_{down}), \quad
              a = \mathrm{softmax}(P z^T / \sqrt{h})\, z, \quad p = a W_{up}

    f are the input tokens of a block, and the module is shared by ``share_every`` consecutive blocks.

    In a plain ViT m learned tokens are appended to the sequence before the first adapted block. Before every adapted
    block p is added to them, and after it the parallel adapter :math:`z W_{up2}` is added to all tokens. The features
    are the mean over the pooled feature (class token) and the appended tokens, each after the last LayerNorm. In a
    hierarchy no tokens can be appended; there the results return to every token through the transposed attention
    weights, :math:`f + (A^T a) W_{up}`.

    Both up projections start at zero, so that a hierarchy starts as the identity. A plain ViT cannot: the appended
    tokens take a share of every attention, and the mean includes them; if they are masked from the attention, all other
    tokens equal the plain backbone's. The head is therefore solved on the adapted features
    (:class:`~movl_monai.engines.LinearProbe`).

    Args:
        backbone: a frozen ViT or Swin of timm, or a CLIP ViT.
        num_prompts: m, from 1 to the number of image tokens in the smallest adapted block.
        bottleneck: h, at least 1.
        share_every: blocks per module, at least 1 (nothing shared). A group never crosses a stage of a hierarchy, and
            the last group of a stage is shorter if ``share_every`` does not divide it.
        readout: features of a plain ViT: "prompts", the mean with the appended tokens, or "backbone", the backbone's
            pooling without them.
        as_released: follow the authors' code instead, to measure the difference. In a ViT: learned tokens appended once
            and the parallel adapter; the code computes the attention there without using it, so it is left out. In a
            hierarchy: queries (m, d) that attend outside of the bottleneck, with results that pass through it and are
            added to the first m tokens, a fixed strip of the map.
        dynamic: False leaves out the queries, to measure their effect. The parallel adapter remains, in a plain ViT
            with appended tokens that are equal for every image, as with ``as_released``.
        blocks: numbers of the blocks to adapt; None adapts all.
        seed: of the initial values.

    Raises:
        ConfigError: if the backbone cannot host it, or an option is out of range.

    Reference:
        DVPT, arXiv 2307.09787 (Neural Networks 185:107168, 2025). From the paper: bottleneck, queries that attend to
        the transformed features, projection up, aggregation with the frozen features, sharing between layers. From the
        released code: appended tokens, the mean read-out, the parallel adapter, ``share_every=3``. Our reading: all
        dimensions, attention inside the bottleneck, no biases, both up projections at zero, results before the block
        and the branch after it, keys without the prompts, the transposed return.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> adapter = DVPT(TimmBackbone("test_vit", image_size=64), num_prompts=4, bottleneck=8, share_every=3)
        >>> len(adapter.groups), adapter.num_parameters()
        (2, 3392)
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_prompts: int = 10,
        bottleneck: int = 20,
        share_every: int = 3,
        readout: Literal["prompts", "backbone"] = "prompts",
        as_released: bool = False,
        dynamic: bool = True,
        blocks: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, blocks=blocks)
        self.num_prompts = check_num_prompts(num_prompts, self)
        self.bottleneck, self.share_every, self.as_released, self.dynamic = (
            bottleneck,
            share_every,
            as_released,
            dynamic,
        )
        _check_options(bottleneck, share_every, readout)
        self.in_sequence = self.layout.kind == "sequence"
        self.groups = block_groups(self.block_numbers, self.layout.stages, share_every)
        generator = torch.Generator().manual_seed(seed)
        if self.in_sequence:
            self.num_appended = self.num_prompts
            self.averages_appended = readout == "prompts"
            _check_readout(backbone, self.averages_appended)
            self.start = starting_tokens(num_prompts, backbone, generator)
        self.shared = nn.ModuleList(self._module(group[0], generator) for group in self.groups)

    @torch.jit.ignore
    def hooks(self) -> list[BlockHook]:
        """See :meth:`Adapter.hooks`."""
        hooks = super().hooks()
        for group, module in zip(self.groups, self.shared, strict=True):
            for number in group:
                hooks[number] = self._hook(module, first=number == self.first_block)
        return hooks

    @torch.jit.ignore
    def first_prompts(self) -> nn.Parameter | None:
        """See :meth:`Adapter.first_prompts`."""
        return self.start if self.in_sequence else None

    @torch.jit.ignore
    def settings(self) -> str:
        """See :meth:`Adapter.settings`."""
        options: dict[str, object] = {"num_prompts": self.num_prompts, "bottleneck": self.bottleneck}
        options["share_every"] = self.share_every
        if self.in_sequence:
            options["readout"] = "prompts" if self.averages_appended else "backbone"
        if self.as_released:
            options["as_released"] = True
        if not self.dynamic:
            options["dynamic"] = False
        return self._described(**options)

    def _module(self, number: int, generator: torch.Generator) -> DynamicPrompts:
        width = self.layout.widths[number]
        return DynamicPrompts(
            width=width,
            num_prompts=self.num_prompts if self.dynamic and not (self.as_released and self.in_sequence) else 0,
            bottleneck=self.bottleneck,
            query_width=width if self.as_released else None,
            generator=generator,
        )

    @torch.jit.ignore
    def _hook(self, module: DynamicPrompts, *, first: bool) -> BlockHook:
        start = AppendTokens(self.start) if first and self.in_sequence else None
        if not hasattr(module, "queries"):
            return StaticHook(module, start)
        if not self.in_sequence:
            return ReleasedMapHook(module) if self.as_released else MapHook(module)
        return SequenceHook(module, self.num_prompts, start)


def block_groups(numbers: Sequence[int], stages: Sequence[int], share_every: int) -> list[list[int]]:
    """Split adapted blocks into groups of up to ``share_every`` consecutive blocks within a stage.

    Example:
        >>> block_groups([0, 1, 2, 3, 4], [0, 0, 1, 1, 1], 2)
        [[0, 1], [2, 3], [4]]
    """
    groups: list[list[int]] = []
    for number in numbers:
        last = groups[-1] if groups else []
        if last and len(last) < share_every and stages[last[0]] == stages[number]:
            last.append(number)
        else:
            groups.append([number])
    return groups


def _check_options(bottleneck: int, share_every: int, readout: str) -> None:
    if bottleneck < 1:
        raise ConfigError(f"bottleneck must be at least 1, got {bottleneck}; 20 is a good start.")
    if share_every < 1:
        raise ConfigError(f"share_every must be at least 1 (nothing shared), got {share_every}; 3 is a good start.")
    if readout not in ("prompts", "backbone"):
        raise ConfigError(f"readout must be 'prompts' or 'backbone', got {readout!r}.")


def _check_readout(backbone: Backbone, averages: bool) -> None:
    if averages and not backbone.token_path().reads_tokens:
        raise ConfigError(
            f"{backbone.spec.name} pools its tokens by attention, so that single tokens cannot be averaged with the "
            "result; set readout to 'backbone'."
        )


class DynamicPrompts(nn.Module):
    r"""Make prompts from the sample's frozen tokens; shared by the blocks of a group.

    .. math:: z = \mathrm{GELU}(f W_{down}), \quad A = \mathrm{softmax}(P z^T / \sqrt{h}), \quad a = A z

    with tokens f (B, N, d), z (B, N, h), queries P (m, h), A (B, m, N) and a (B, m, h). :meth:`raised` gives
    :math:`a W_{up}`, :meth:`branch` gives :math:`z W_{up2}`, the parallel adapter of every token. Both matrices are
    zero at the start, so that the module adds nothing before its first step; all of its parameters train from that step
    on. A state in the earlier form, with a scalar gate per matrix, is converted when it is loaded.

    Args:
        width: d.
        num_prompts: m; 0 leaves only the parallel adapter.
        bottleneck: h.
        query_width: width of the queries if it is not h (the released code attends outside of the bottleneck).
        generator: the seeded random generator.
    """

    def __init__(
        self,
        *,
        width: int,
        num_prompts: int,
        bottleneck: int,
        generator: torch.Generator,
        query_width: int | None = None,
    ) -> None:
        super().__init__()
        self.down = uniform_rows((bottleneck, width), fan_in=width, generator=generator)
        self.branch_up = nn.Parameter(torch.zeros(width, bottleneck))
        if num_prompts:
            size = query_width or bottleneck
            self.queries = nn.Parameter(torch.randn(num_prompts, size, generator=generator))
            self.up = nn.Parameter(torch.zeros(width, bottleneck))
        self.register_load_state_dict_pre_hook(_without_gates)

    def squeeze(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute z (B, N, h) of tokens (B, N, d)."""
        return F.gelu(F.linear(tokens, self.down))

    def weights(self, keys: torch.Tensor) -> torch.Tensor:
        """Compute the attention A (B, m, N) of the queries over keys (B, N, h); rows sum to 1."""
        scores = torch.matmul(self.queries, keys.transpose(1, 2))
        return (scores / self.queries.shape[1] ** 0.5).softmax(dim=2)

    def raised(self, results: torch.Tensor) -> torch.Tensor:
        """Compute tokens (B, M, d) of results (B, M, h) in the bottleneck."""
        return F.linear(results, self.up)

    def branch(self, squeezed: torch.Tensor) -> torch.Tensor:
        """Compute the output of the parallel adapter, (B, N, d), from z (B, N, h)."""
        return F.linear(squeezed, self.branch_up)


def _without_gates(_module: nn.Module, state: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
    for matrix, gate in (("up", "gate"), ("branch_up", "branch_gate")):
        if prefix + gate in state and prefix + matrix in state:
            state[prefix + matrix] = state.pop(prefix + gate) * state[prefix + matrix]


class SequenceHook(BlockHook):
    """DVPT in a plain ViT: the last m tokens of the sequence are the prompts.

    Before the block the module's results are added to them, so that the frozen attention mixes them with the image's
    tokens; after it the parallel adapter is added to all tokens. Keys are the image's tokens and the tokens before them
    (class token), not the prompts themselves.

    Args:
        module: shared with the other blocks of the group.
        num_prompts: m.
        start: hook that appends the prompts before the first adapted block; None elsewhere.
    """

    def __init__(self, module: DynamicPrompts, num_prompts: int, start: BlockHook | None) -> None:
        super().__init__()
        self.module = module
        self.num_prompts = num_prompts
        self.start = BlockHook() if start is None else start

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`BlockHook.before`; kept is z of all tokens."""
        tokens, _ = self.start.before(tokens)
        squeezed = self.module.squeeze(tokens)
        keys = squeezed[:, : squeezed.shape[1] - self.num_prompts]
        raised = self.module.raised(self.module.weights(keys) @ keys)
        others = tokens.shape[1] - self.num_prompts
        return torch.cat([tokens[:, :others], tokens[:, others:] + raised], dim=1), squeezed

    def after(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """See :meth:`BlockHook.after`."""
        return tokens + self.module.branch(kept)

    @torch.jit.ignore
    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the weights (B, m, N) of the queries over the input tokens of :meth:`before`, without prompts."""
        tokens, _ = self.start.before(tokens)
        return self.module.weights(self.module.squeeze(tokens[:, : tokens.shape[1] - self.num_prompts]))


class StaticHook(BlockHook):
    """DVPT without its dynamic part: the parallel adapter, and in a plain ViT tokens that are appended once.

    Args:
        module: without queries.
        start: as in :class:`SequenceHook`; None in a hierarchy.
    """

    def __init__(self, module: DynamicPrompts, start: BlockHook | None) -> None:
        super().__init__()
        self.module = module
        self.start = BlockHook() if start is None else start

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`BlockHook.before`; kept is z of all tokens."""
        tokens, _ = self.start.before(tokens)
        return tokens, self.module.squeeze(tokens)

    def after(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """See :meth:`BlockHook.after`."""
        return tokens + self.module.branch(kept)


class MapHook(BlockHook):
    r"""DVPT in a hierarchy, tokens (B, H, W, d): the results return to every token by the transposed attention.

    .. math:: f \leftarrow f + (A^T a) W_{up}
    """

    def __init__(self, module: DynamicPrompts) -> None:
        super().__init__()
        self.module = module

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`BlockHook.before`; kept is z (B, H * W, h)."""
        squeezed = self.module.squeeze(tokens.flatten(1, 2))
        weights = self.module.weights(squeezed)
        back = weights.transpose(1, 2) @ (weights @ squeezed)
        return tokens + self.module.raised(back).reshape(tokens.shape), squeezed

    def after(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """See :meth:`BlockHook.after`."""
        return tokens + self.module.branch(kept).reshape(tokens.shape)

    @torch.jit.ignore
    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the weights (B, m, H * W) of the queries over the input tokens of :meth:`before`."""
        return self.module.weights(self.module.squeeze(tokens.flatten(1, 2)))


class ReleasedMapHook(BlockHook):
    """DVPT in the released hierarchies: results are added to the first m tokens, a fixed strip of the map.

    The queries (m, d) attend outside of the bottleneck; their results pass through it afterwards.
    """

    def __init__(self, module: DynamicPrompts) -> None:
        super().__init__()
        self.module = module

    def before(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`BlockHook.before`; kept is z (B, H * W, h)."""
        flat = tokens.flatten(1, 2)
        results = self.module.weights(flat) @ flat
        raised = self.module.raised(self.module.squeeze(results))
        strip = F.pad(raised, [0, 0, 0, flat.shape[1] - raised.shape[1]])
        return (flat + strip).reshape(tokens.shape), self.module.squeeze(flat)

    def after(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """See :meth:`BlockHook.after`."""
        return tokens + self.module.branch(kept).reshape(tokens.shape)

    @torch.jit.ignore
    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the weights (B, m, H * W) of the queries over the input tokens of :meth:`before`."""
        return self.module.weights(tokens.flatten(1, 2))
