"""Tokens after the last block or stage of a frozen backbone, for a head that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from movl_monai.backbones import Backbone, TokenPath
from movl_monai.backbones.stage_maps import stage_maps
from movl_monai.errors import ConfigError

__all__ = ["MapTokens", "last_norm", "token_width"]

_TOLERANCE = 1e-4
_PROBE_SIZE = 64


class MapTokens(nn.Module):
    """Compute the features of a CNN or another hierarchy, and its last map as tokens, in one pass.

    The modules are the backbone's own, so it costs no memory. It is compared with the backbone on a small random batch.

    Args:
        backbone: frozen, with ``layers="last"``.

    Raises:
        ConfigError: if the backbone has other ``layers``, or its features do not come from one last map.
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        encoder: Any
        stages: Any

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.encoder, self.stages = backbone.encoder, None
        self.depth = 1  # a cache starts after all of it
        self.channels_last = getattr(self.encoder, "output_fmt", "NCHW") == "NHWC"  # timm's notation
        if backbone.layers != "last":
            raise ConfigError(
                f"A head that reads tokens needs the last map of {backbone.spec.name}, which is read at other layers; "
                'set layers to "last", or choose a ViT or Swin.'
            )
        if not hasattr(self.encoder, "forward_head"):  # not a network of timm
            self.stages = stage_maps(backbone)
        self.token_width = self._check(backbone)
        self.train(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features (B, num_features) of normalised images (B, 3, H, W)."""
        return self.with_tokens(image)[0]

    def with_tokens(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features (B, num_features) and tokens (B, h w, C) of normalised images (B, 3, H, W)."""
        return self._read(self.last_map(image))

    def last_map(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the last map, (B, C, h, w), or (B, h, w, C) if the network has its channels last."""
        if self.stages is not None:
            return self.stages(image)[-1]
        return self.encoder.forward_features(image)

    def _read(self, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.stages is not None:  # noqa: SIM108 - TorchScript drops a branch by this test alone
            features = last.mean(dim=(2, 3))
        else:
            features = self.encoder.forward_head(last)
        if self.channels_last:
            return features, last.flatten(1, 2)
        return features, last.flatten(2).transpose(1, 2)

    @torch.jit.ignore
    def prefix(self, image: torch.Tensor, _stop: int) -> torch.Tensor:
        """Compute the last map, the input of :meth:`resume`."""
        return self.last_map(image)

    @torch.jit.ignore
    def resume(self, last: torch.Tensor, _start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features and tokens from the last map."""
        return self._read(last)

    def train(self, mode: bool = True) -> MapTokens:
        """Stay in eval mode: the backbone is frozen."""
        super().train(False)
        return self

    @torch.jit.ignore
    @torch.no_grad()
    def _check(self, backbone: Backbone) -> int:
        spec = backbone.spec
        size = spec.image_size if spec.fixed_image_size else min(spec.image_size, _PROBE_SIZE)
        image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(backbone.mean)
        try:
            self.eval()
            last = self.last_map(backbone.normalize(image))
            features, tokens = self._read(last)
            expected = backbone(image)
            same = last.ndim == 4 and features.shape == expected.shape
            same = same and float((features - expected).abs().max()) <= _TOLERANCE * float(expected.abs().max())
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            same = False
        if not same:
            raise ConfigError(
                f"{spec.name} gives no tokens to a head: it is neither a ViT or Swin whose blocks are known nor a CNN "
                "that pools one last map. Choose such a backbone, or a LinearHead."
            )
        return int(tokens.shape[2])


def last_norm(path: TokenPath) -> nn.Module:
    """Return the LayerNorm after the last block; the identity if there is none of this width."""
    norm = getattr(path.encoder, "norm", getattr(path.encoder, "ln_post", None))
    inner = getattr(norm, "layer", norm)  # an adapter may have wrapped it
    width = getattr(inner, "normalized_shape", None)
    return norm if isinstance(norm, nn.Module) and width == (path.layout.widths[-1],) else nn.Identity()


def token_width(backbone: Backbone) -> int:
    """Return the width of a backbone's tokens for a head.

    Args:
        backbone: a Transformer with known blocks, or a CNN that pools one last map.

    Raises:
        ConfigError: if it has no tokens.

    Example:
        >>> from movl_monai.backbones import ResNetBackbone
        >>> token_width(ResNetBackbone("resnet18", image_size=64))
        512
    """
    try:
        return int(backbone.token_path(own=True).layout.widths[-1])
    except ConfigError:  # not a Transformer with known blocks
        return MapTokens(backbone).token_width
