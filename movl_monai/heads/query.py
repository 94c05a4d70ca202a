"""Linear probe with a few learned queries that attend to the frozen tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.errors import ConfigError

from .linear import LinearHead

__all__ = ["QueryHead"]


class QueryHead(nn.Module):
    r"""Add the output of learned queries over the tokens of a frozen backbone to the linear probe.

    With tokens :math:`X` (N, d), each brought to zero mean and unit variance, and queries :math:`Q` (M, d)

    .. math:: A = \mathrm{softmax}(Q X^\top / \sqrt{d}), \qquad V = X W_v, \qquad
              \mathrm{head}(f, X) = \mathrm{LP}(f) + W_o \, [A_j V_j]_{j = 1 \ldots M}

    where query :math:`j` takes the :math:`j`-th of M equal slices :math:`V_j` of the values. Keys have no projection.
    :math:`W_o` starts at zero, so the first logits equal the linear probe's.

    A network gives the head both inputs: the features, which OOD scores continue to use, and the image's own tokens
    after the last block, without class token, registers and appended tokens.

    Args:
        num_features: length of the feature vector.
        num_classes: number of logits; 1 for a number, as of :class:`LinearHead`.
        token_width: d; :func:`~movl_monai.networks.token_width` returns it for a backbone.
        num_queries: M.
        value_width: length of V, a multiple of ``num_queries``; None uses ``token_width``.
        seed: of queries and values.

    Raises:
        ConfigError: if ``num_queries`` is below 1 or does not divide the values.
        ValueError: if another size is too small.

    Reference:
        Psomas et al., Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency, arXiv
        2506.10178. Deviations: the linear probe remains and is the start of training; each token is standardised
        separately instead of by BatchNorm, so that one learning rate fits all backbones; values have no bias.

    Example:
        >>> head = QueryHead(4, 2, token_width=8, num_queries=2)
        >>> head(torch.randn(3, 4), torch.randn(3, 5, 8)).softmax(dim=1)[0]
        tensor([0.5000, 0.5000], grad_fn=<SelectBackward0>)
    """

    __jit_unused_properties__ = ("weight",)
    reads_tokens = True

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        token_width: int,
        num_queries: int = 8,
        value_width: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        values = token_width if value_width is None else value_width
        if token_width < 1 or values < 1:
            raise ValueError(f"token_width and value_width must be at least 1, got {token_width} and {values}.")
        _check_queries(num_queries, values)
        self.num_features = num_features
        self.num_classes = num_classes
        self.token_width = token_width
        self.num_queries = num_queries
        self.value_width = values
        self.linear = LinearHead(num_features, num_classes)
        generator, bound = torch.Generator().manual_seed(seed), token_width**-0.5
        # each token has length sqrt(d): scores have a deviation of 0.02 sqrt(d), attention starts nearly uniform
        self.queries = nn.Parameter(0.02 * torch.randn(num_queries, token_width, generator=generator))
        slices = torch.empty(num_queries, token_width, values // num_queries)
        self.values = nn.Parameter(slices.uniform_(-bound, bound, generator=generator))
        self.output = nn.Parameter(torch.zeros(num_classes, values))

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            features: (B, num_features).
            tokens: (B, N, token_width).

        Returns:
            Logits (B, num_classes), before softmax.
        """
        tokens = self._standardized(tokens)
        # A (X W) = (A X) W: the mean tokens come first, so no value of a single token is computed
        means = self._weights(tokens) @ tokens
        read = (means.transpose(0, 1) @ self.values).transpose(0, 1).flatten(1)
        added = F.linear(read, self.output)
        scale = self.linear.target_scale
        if scale is not None:  # of a number, which the linear probe gives in its units
            added = scale * added
        return self.linear(features) + added

    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the weights A (B, num_queries, N) of tokens (B, N, token_width)."""
        return self._weights(self._standardized(tokens))

    @property
    def weight(self) -> nn.Parameter:
        """Weight of the linear probe (num_classes, num_features), which its L2 penalty refers to."""
        return self.linear.weight

    @torch.jit.ignore
    def set_standardization(self, mean: torch.Tensor, scale: torch.Tensor | float) -> None:
        """Set centre and scale of the features; see :meth:`LinearHead.set_standardization`."""
        self.linear.set_standardization(mean, scale)

    @torch.jit.ignore
    def set_target(self, mean: torch.Tensor | float, scale: torch.Tensor | float) -> None:
        """Set mean and deviation of the number; see :meth:`LinearHead.set_target`."""
        self.linear.set_target(mean, scale)

    @torch.jit.ignore
    def load_solution(
        self, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor | float
    ) -> None:
        """Load a solved linear probe; the queries are unchanged. See :meth:`LinearHead.load_solution`."""
        self.linear.load_solution(weight, bias, mean, scale)

    @torch.jit.ignore
    def settings(self) -> str:
        """Return a description of the settings that a checkpoint must share, besides shapes."""
        return f"QueryHead(num_queries={self.num_queries}, value_width={self.value_width})"

    def _standardized(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(tokens, [self.token_width])

    def _weights(self, tokens: torch.Tensor) -> torch.Tensor:
        return (self.queries @ tokens.transpose(1, 2) * self.token_width**-0.5).softmax(dim=2)


def _check_queries(num_queries: int, values: int) -> None:
    whole = isinstance(num_queries, int) and not isinstance(num_queries, bool)
    if whole and num_queries >= 1 and values % num_queries == 0:
        return
    fit = [number for number in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if values % number == 0]
    raise ConfigError(
        f"num_queries must be at least 1 and divide the {values} values, of which each query takes an equal slice; got "
        f"{num_queries!r}. Choose one of {fit}, or another value_width."
    )
