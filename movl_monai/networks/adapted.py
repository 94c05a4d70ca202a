"""Frozen Transformer with an adapter in its blocks, and feature maps of a Transformer with or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from movl_monai.adapters import Adapter
from movl_monai.adapters.base import BlockHook, check_frozen
from movl_monai.backbones import Backbone, TokenPath
from movl_monai.backbones.stage_maps import StageMaps, stage_maps
from movl_monai.errors import ConfigError

from .last_tokens import last_norm

__all__ = ["AdaptedPath", "TokenMaps", "adapted_maps"]


class AdaptedPath(nn.Module):
    """Compute features with an adapter attached; the original backbone is unchanged.

    All tensors but the adapter's are the backbone's own (see :class:`~movl_monai.backbones.TokenPath`), so it costs no
    memory, and ``state_dict`` of a network leaves it out. It is always in eval mode. If the features come from a class
    token and appended tokens, the last block's MLP, which mixes no tokens, runs only on these.

    For a backbone with several ``layers`` the features are, with the adapter in place, the class token and the mean of
    the image's own tokens after each block. Appended tokens are then ignored, even if the adapter averages them.

    A head that reads tokens gets the image's tokens after the last block and its LayerNorm (:meth:`with_tokens`),
    without class token, registers and appended tokens.

    Args:
        backbone: a frozen Transformer.
        adapter: built for it; its modules are used, not copied. None for no adapter.
        reads_tokens: whether a head reads the tokens too; the last MLP then runs on all of them.

    Raises:
        ConfigError: if the adapter was built for another architecture, the backbone is not frozen, or none of its
            ``layers`` comes after the first adapted block.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        hooks: Any
        readout: Any
        norm: Any

    def __init__(self, backbone: Backbone, adapter: Adapter | None, *, reads_tokens: bool = False) -> None:
        super().__init__()
        check_frozen(backbone)
        self.path = backbone.token_path()
        layout = self.path.layout
        if adapter is not None:
            adapter.attach(self.path)
        self.hooks = nn.ModuleList([BlockHook() for _ in layout.widths] if adapter is None else adapter.hooks())
        self.num_appended = 0 if adapter is None else adapter.num_appended
        self.averages_appended = adapter is not None and adapter.averages_appended
        self.readout = getattr(backbone.layer_reader, "readout", None)
        self.depth = layout.depth
        self.is_sequence, self.num_prefix = layout.kind == "sequence", layout.num_prefix
        # after the adapter, which may have replaced it
        self.norm = last_norm(self.path) if reads_tokens else None
        if self.readout is None and not reads_tokens:
            _skip_unread(self.path, num_last=self.num_appended if self.averages_appended else 0)
        elif self.readout is not None and adapter is not None and self.readout.last < adapter.first_block:
            raise ConfigError(
                f"The adapter starts in block {adapter.first_block}, and no layer from there on is read "
                f"(layers={backbone.layers}): it would change nothing. Add a later layer, or adapt earlier blocks."
            )
        self.train(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features.

        Args:
            image: normalised, (B, 3, H, W).

        Returns:
            (B, num_features).
        """
        return self.with_tokens(image)[0]

    def with_tokens(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features (B, num_features), and the image's tokens (B, N, d) after the last block, in one pass."""
        return self._run(self.path.embed(image), [], 0)

    @torch.jit.ignore
    def resume(self, tokens: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the result of :meth:`with_tokens` from the result of :meth:`prefix` for block ``start``."""
        parts: list[torch.Tensor] = []
        if self.readout is not None:
            tokens, parts = self.readout.unpack(tokens, start)
        return self._run(tokens, parts, start)

    def _run(self, tokens: torch.Tensor, parts: list[torch.Tensor], start: int) -> tuple[torch.Tensor, torch.Tensor]:
        own = tokens.shape[1]
        steps = zip(self.path.entries, self.path.blocks, self.hooks)  # noqa: B905 - TorchScript knows no `strict`
        for number, (entry, block, hook) in enumerate(steps):
            if number >= start:
                tokens, kept = hook.before(entry(tokens))
                tokens = hook.after(block(tokens), kept)
                if self.readout is not None:  # noqa: SIM102 - TorchScript drops a branch by this test alone
                    if self.readout.taken[number]:
                        parts.append(self.readout(tokens, own))
        if self.readout is not None:  # noqa: SIM108 - TorchScript drops a branch by this test alone
            features = torch.cat(parts, dim=1)
        else:
            features = self.pool(tokens)
        return features, self.own_tokens(tokens)

    def own_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the image's tokens (B, N, d) from the output of the last block; normalised if a head reads them."""
        if self.norm is not None:
            tokens = self.norm(tokens)
        if self.is_sequence:
            return tokens[:, self.num_prefix : tokens.shape[1] - self.num_appended]
        return tokens.flatten(1, 2)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute features (B, num_features) from all tokens after the last block, including appended ones."""
        if self.num_appended == 0:
            return self.path.pool(tokens)
        own = tokens.shape[1] - self.num_appended
        pooled = self.path.pool(tokens[:, :own])
        if not self.averages_appended:
            return pooled
        return (pooled + self.path.read(tokens[:, own:]).sum(dim=1)) / (1 + self.num_appended)

    @torch.jit.ignore
    def prefix(self, image: torch.Tensor, stop: int) -> torch.Tensor:
        """Compute the input tokens of block ``stop`` from normalised images, if nothing before it is adapted.

        Features of used layers before that block follow the tokens in one row per image.
        """
        tokens = self.path.embed(image)
        own, parts = tokens.shape[1], []
        for number in range(stop):
            tokens = self.path.blocks[number](self.path.entries[number](tokens))
            if self.readout is not None and self.readout.taken[number]:
                parts.append(self.readout(tokens, own))
        return tokens if self.readout is None else self.readout.pack(tokens, parts)

    @torch.jit.ignore
    @torch.no_grad()
    def prompt_attention(self, image: torch.Tensor) -> dict[int, torch.Tensor]:
        """Compute the attention of the dynamic prompts, from normalised images (B, 3, H, W).

        Returns:
            By number of the adapted block: weights (B, m, h, w) of the m queries over the image's tokens; the remainder
            to a sum of 1 belongs to the tokens before them (class token). Empty without such prompts.
        """
        tokens, found = self.path.embed(image), {}
        for number, (entry, block, hook) in enumerate(
            zip(self.path.entries, self.path.blocks, self.hooks, strict=True)
        ):
            tokens = entry(tokens)
            if hasattr(hook, "attention"):
                weights = hook.attention(tokens)[:, :, self.path.layout.num_prefix :]
                found[number] = weights.unflatten(2, self.path.layout.grids[number])
            tokens, kept = hook.before(tokens)
            tokens = hook.after(block(tokens), kept)
        return found

    def train(self, mode: bool = True) -> AdaptedPath:
        """Stay in eval mode: the backbone is frozen, and adapters do not depend on the mode."""
        super().train(False)
        return self


class ReadTokensMLP(nn.Module):
    """MLP that runs only on the first and the last tokens of a sequence, with zeros for the others.

    Args:
        mlp: works on every token separately, (B, N, d) to (B, N, d).
        num_first: tokens at the beginning, at least 1.
        num_last: tokens at the end.
    """

    def __init__(self, mlp: nn.Module, *, num_first: int, num_last: int) -> None:
        super().__init__()
        self.mlp = mlp
        self.num_first = num_first
        self.num_last = num_last

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the MLP of the first and last tokens, (B, N, d)."""
        end = tokens.shape[1] - self.num_last
        read = self.mlp(torch.cat([tokens[:, : self.num_first], tokens[:, end:]], dim=1))
        unread = read.new_zeros([read.shape[0], end - self.num_first, read.shape[2]])
        return torch.cat([read[:, : self.num_first], unread, read[:, self.num_first :]], dim=1)


def _skip_unread(path: TokenPath, *, num_last: int) -> None:
    block: Any = path.blocks[-1]
    if path.num_pooled and hasattr(block, "mlp"):
        block.mlp = ReadTokensMLP(block.mlp, num_first=path.num_pooled, num_last=num_last)


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
