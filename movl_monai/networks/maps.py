"""Feature maps of a Transformer, possibly with an adapter in its blocks."""

from __future__ import annotations

import torch
from torch import nn

from movl_monai.adapters import Adapter
from movl_monai.adapters.base import BlockHook
from movl_monai.backbones import Backbone, TokenPath
from movl_monai.backbones.stage_maps import StageMaps, stage_maps
from movl_monai.errors import ConfigError

__all__ = ["TokenMaps", "adapted_maps"]


class TokenMaps(nn.Module):
    """Compute the maps of ``forward_features`` block by block, with an adapter attached if there is one.

    A plain ViT gives maps at a quarter, a half, three quarters and the end of its depth, after its last LayerNorm. They
    contain only the image's tokens, because class token and appended prompts have no place in the image. A hierarchy
    gives the last block's output of each of its last four stages.

    All tensors but the adapter's are the backbone's own (see :class:`~movl_monai.backbones.TokenPath`).

    Args:
        backbone: a Transformer; frozen, if there is an adapter.
        adapter: built for it; its modules are used, not copied. None for the plain maps.

    Raises:
        ConfigError: if the backbone is not a Transformer with known blocks, or the adapter was built for another
            architecture.
    """

    def __init__(self, backbone: Backbone, adapter: Adapter | None = None) -> None:
        super().__init__()
        self.path = backbone.token_path()
        layout = self.path.layout
        if adapter is not None:
            adapter.attach(self.path)
        plain = [BlockHook() for _ in range(layout.depth)]
        self.hooks = nn.ModuleList(plain if adapter is None else adapter.hooks())
        self.norm = _last_norm(self.path)
        self.taken = _taken(layout.depth, layout.stages)
        self.grids = [(int(rows), int(columns)) for rows, columns in layout.grids]
        self.num_prefix = layout.num_prefix
        self.is_sequence = layout.kind == "sequence"
        self.trains = not backbone.frozen
        self.train(backbone.training)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps.

        Args:
            image: normalised, (B, 3, H, W).

        Returns:
            Maps (B, C_i, H_i, W_i), finest first.
        """
        tokens = self.path.embed(image)
        maps: list[torch.Tensor] = []
        steps = zip(self.path.entries, self.path.blocks, self.hooks)  # noqa: B905 - TorchScript knows no `strict`
        for number, (entry, block, hook) in enumerate(steps):
            tokens, kept = hook.before(entry(tokens))  # type: ignore[operator]
            tokens = hook.after(block(tokens), kept)  # type: ignore[operator]
            if self.taken[number]:
                maps.append(self.as_map(tokens, self.grids[number]))
        return maps

    def as_map(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Return the image's tokens as a map (B, d, H, W)."""
        if self.is_sequence:
            rows, columns = grid
            own = self.norm(tokens)[:, self.num_prefix : self.num_prefix + rows * columns]
            tokens = own.reshape(own.shape[0], rows, columns, own.shape[2])
        return tokens.permute(0, 3, 1, 2).contiguous()

    def train(self, mode: bool = True) -> TokenMaps:
        """Stay in eval mode while the backbone is frozen; adapters do not depend on the mode."""
        super().train(mode and self.trains)
        return self


def adapted_maps(backbone: Backbone, adapter: Adapter | None) -> TokenMaps | StageMaps | None:
    """Return a module for the maps of a backbone; None if only its own ``forward_features`` gives them.

    Raises:
        ConfigError: if there is an adapter that the backbone cannot host.
    """
    if adapter is not None:
        return TokenMaps(backbone, adapter)
    try:
        return TokenMaps(backbone)
    except ConfigError:  # not a Transformer with known blocks
        return stage_maps(backbone)


def _taken(depth: int, stages: tuple[int, ...]) -> list[bool]:
    """Return True for each block whose output is a map."""
    if len(set(stages)) == 1:
        numbers = {max(0, round(depth * quarter / 4) - 1) for quarter in (1, 2, 3, 4)}
    else:
        ends = [number for number in range(depth) if number + 1 == depth or stages[number + 1] != stages[number]]
        numbers = set(ends[-4:])
    return [number in numbers for number in range(depth)]


def _last_norm(path: TokenPath) -> nn.Module:
    """Return the LayerNorm after the last block of a plain ViT; the identity for a hierarchy, whose maps have none."""
    encoder = path.encoder
    # an attention pool comes before it and changes the width
    if path.layout.kind == "map" or getattr(encoder, "attn_pool", None) is not None:
        return nn.Identity()
    norm = getattr(encoder, "norm", getattr(encoder, "ln_post", None))
    return norm if isinstance(norm, nn.Module) else nn.Identity()
