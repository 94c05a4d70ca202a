"""Steps of a CLIP image tower that is a ViT."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.errors import ConfigError

from .token_path import TokenLayout, TokenPath

__all__ = ["CLIPViTPath", "OpenAttention", "clip_path"]


class CLIPViTPath(TokenPath):
    """ViT of open_clip; ``pool`` ends with the projection, if the tower has one."""

    def __init__(self, encoder: Any, *, num_features: int) -> None:
        blocks = list(encoder.transformer.resblocks)
        layout = TokenLayout(
            kind="sequence",
            widths=(int(encoder.transformer.width),) * len(blocks),
            grids=(tuple(encoder.grid_size),) * len(blocks),
            stages=(0,) * len(blocks),
            num_prefix=1,
            num_features=num_features,
        )
        super().__init__(
            encoder,
            layout,
            entries=[nn.Identity() for _ in blocks],
            blocks=blocks,
            reads_tokens=encoder.attn_pool is None,
            num_pooled=1 if encoder.attn_pool is None and encoder.pool_type == "tok" else 0,
        )

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.embed`."""
        return self.encoder._embeds(image)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.pool`."""
        pooled, _ = self.encoder._pool(tokens)
        return pooled if self.encoder.proj is None else pooled @ self.encoder.proj

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.read`."""
        normed = self.encoder.ln_post(tokens)
        return normed if self.encoder.proj is None else normed @ self.encoder.proj

    @torch.jit.ignore
    def open_attention(self) -> None:
        """Replace ``nn.MultiheadAttention``, which uses the weights of its layers without calling them."""
        for block in self.blocks:
            if isinstance(block.attn, nn.MultiheadAttention):
                block.attn = OpenAttention(block.attn)


class OpenAttention(nn.Module):
    """Equivalent of ``nn.MultiheadAttention``, with ``qkv`` and ``proj`` as layers that can be wrapped.

    Args:
        attention: batch-first self-attention with one width for queries, keys and values; its tensors are used, not
            copied.

    Raises:
        ConfigError: for any other attention.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        width = attention.embed_dim
        if attention.in_proj_weight is None or not attention.batch_first or attention.bias_k is not None:
            raise ConfigError("This attention has separate widths, added biases or the batch second; it is not hosted.")
        self.num_heads = attention.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=attention.in_proj_bias is not None, device="meta")
        self.qkv.weight = attention.in_proj_weight
        if attention.in_proj_bias is not None:
            self.qkv.bias = attention.in_proj_bias
        self.proj = attention.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend within ``query`` (B, N, d), which is also key and value; returns (B, N, d) and None."""
        batch, count, width = query.shape
        parts = self.qkv(query).reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width)), None


def clip_path(encoder: nn.Module, *, name: str, num_features: int) -> TokenPath:
    """Return the steps of an image tower of open_clip.

    Raises:
        ConfigError: if the tower is a ResNet or one of timm's.
    """
    from open_clip.transformer import VisionTransformer

    if type(encoder) is VisionTransformer:
        return CLIPViTPath(encoder, num_features=num_features)
    raise ConfigError(
        f"{name} ({type(encoder).__name__}) hosts no adapters: it hosts visual prompts in front of it and heads behind "
        "it. Adapters live in the blocks of CLIP's own ViTs (ViT-B-16, ViT-B-32) and of timm's ViTs and Swins; choose "
        "such a backbone, or set the adapter to null."
    )
