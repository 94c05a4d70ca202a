"""Module of DVPT: a bottleneck, queries that attend inside it, and the projection back up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .base import BlockHook, uniform_rows

__all__ = ["DynamicPrompts", "MapHook", "ReleasedMapHook", "SequenceHook", "StaticHook"]


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
