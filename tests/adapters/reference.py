"""Parts that the tests of adapters share: an attention that ignores the appended tokens, and perturbed parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn


def mask_appended(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let no token attend to the last `count` tokens of the sequence."""
    attend = torch.nn.functional.scaled_dot_product_attention

    def without(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **options: Any
    ) -> torch.Tensor:
        return attend(query, key[..., :-count, :], value[..., :-count, :], *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", without)
    # nn.MultiheadAttention has a fast path of its own, which the patch would not reach
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)


def perturb(module: nn.Module, *, scale: float = 0.3, seed: int = 5) -> None:
    """Move every parameter away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))
