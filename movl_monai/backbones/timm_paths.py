"""Steps of timm's plain ViTs and Swins."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from movl_monai.errors import ConfigError

from .token_path import TokenLayout, TokenPath

__all__ = ["TimmSwinPath", "TimmViTPath", "timm_path"]


class TimmViTPath(TokenPath):
    """Plain ViT of timm: ViT, DeiT, DINO, DINOv2 and others of the class ``VisionTransformer``."""

    def __init__(self, encoder: Any, *, num_features: int) -> None:
        depth = len(encoder.blocks)
        layout = TokenLayout(
            kind="sequence",
            widths=(int(encoder.embed_dim),) * depth,
            grids=(tuple(encoder.patch_embed.grid_size),) * depth,
            stages=(0,) * depth,
            num_prefix=int(encoder.num_prefix_tokens),
            num_features=num_features,
        )
        super().__init__(
            encoder,
            layout,
            entries=[nn.Identity() for _ in range(depth)],
            blocks=list(encoder.blocks),
            reads_tokens=encoder.attn_pool is None,
            # a distilled DeiT reads a second token before the image's tokens
            num_pooled=int(encoder.num_prefix_tokens)
            if encoder.attn_pool is None and encoder.global_pool == "token"
            else 0,
        )

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.embed`."""
        tokens = self.encoder._pos_embed(self.encoder.patch_embed(image))
        return self.encoder.norm_pre(self.encoder.patch_drop(tokens))

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.pool`."""
        return self.encoder.forward_head(self.encoder.norm(tokens))

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.read`."""
        return self.encoder.fc_norm(self.encoder.norm(tokens))


class TimmSwinPath(TokenPath):
    """Swin (version 1) of timm: stages of blocks on a map (B, H, W, d), with patch merging between them."""

    def __init__(self, encoder: Any, *, num_features: int) -> None:
        stages = [index for index, stage in enumerate(encoder.layers) for _ in stage.blocks]
        entries = [
            stage.downsample if number == 0 else nn.Identity()
            for stage in encoder.layers
            for number in range(len(stage.blocks))
        ]
        blocks = [block for stage in encoder.layers for block in stage.blocks]
        layout = TokenLayout(
            kind="map",
            widths=tuple(int(block.dim) for block in blocks),
            grids=tuple(tuple(block.input_resolution) for block in blocks),
            stages=tuple(stages),
            num_prefix=0,
            num_features=num_features,
        )
        super().__init__(encoder, layout, entries=entries, blocks=blocks, reads_tokens=False)

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.embed`."""
        return self.encoder.patch_embed(image)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.pool`."""
        return self.encoder.forward_head(self.encoder.norm(tokens))


def timm_path(encoder: nn.Module, *, name: str, num_features: int) -> TokenPath:
    """Return the steps of a network of timm.

    Raises:
        ConfigError: if it is neither a plain ViT nor a Swin of version 1.
    """
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    # a subclass with other steps between the blocks must not be run by this loop
    if isinstance(encoder, VisionTransformer) and type(encoder).forward_features is VisionTransformer.forward_features:
        return TimmViTPath(encoder, num_features=num_features)
    if isinstance(encoder, SwinTransformer) and type(encoder).forward_features is SwinTransformer.forward_features:
        return TimmSwinPath(encoder, num_features=num_features)
    raise ConfigError(
        f"{name} ({type(encoder).__name__}) hosts no adapters: it hosts visual prompts in front of it and heads behind "
        "it. Adapters live in the blocks of plain ViTs (ViT, DeiT, DINO, DINOv2) and Swins of timm and of CLIP's "
        "ViTs; choose such a backbone, or set the adapter to null."
    )
