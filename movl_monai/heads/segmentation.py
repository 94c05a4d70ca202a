"""Light decoder from four feature maps to one logit per class and position."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["FirstMapHead", "SegmentationHead"]


class SegmentationHead(nn.Module):
    r"""All-MLP decoder: project all maps to one width, upsample them to the finest resolution, fuse, classify.

    .. math:: z = \sum_i \mathrm{up}(W_i \, n_i(V_i f_i)), \qquad
              \mathrm{logits} = C \, \sigma(n(z)) \quad\text{with}\quad n: \mathrm{norm},\ \sigma: \mathrm{ReLU}

    Every :math:`V, W, C` is a 1 x 1 convolution. SegFormer concatenates the upsampled maps and fuses them with one
    convolution, which is the same sum. In this form the convolutions run at the resolution of their map, which is
    several times cheaper.

    There are two deviations. SegFormer has BatchNorm after the fusion; here each image is normalised separately.
    Batches are small, and batch statistics would make an image's logits depend on its neighbours in training. Without
    running averages, training and evaluation do not differ. Each projected map is normalised too: the maps of a frozen
    backbone differ in scale by orders of magnitude.

    Args:
        in_channels: channels of the maps, finest first.
        num_classes: number of classes including the background, at least 2.
        width: channels of the decoder, at least 2.
        norm: "group" normalises groups of channels over the whole map and keeps differences in strength between
            positions; "layer" normalises the channels of each position, so that a logit does not depend on distant
            positions.
        bottleneck: channels of a residual bottleneck on the fused map, which starts as the identity; None for no
            bottleneck.
        seed: of the initial values.

    Raises:
        ValueError: if a number is out of range or ``norm`` is unknown.

    Reference:
        Xie et al., SegFormer, NeurIPS 2021, section 3.2 (the decoder); DVPT, arXiv 2307.09787, whose released code has
        a bottleneck in the decoder. Width, norms and the form of the bottleneck are our reading.

    Example:
        >>> head = SegmentationHead([8, 16], 2, width=16)
        >>> head([torch.randn(1, 8, 4, 4), torch.randn(1, 16, 2, 2)]).shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        *,
        width: int = 128,
        norm: Literal["group", "layer"] = "group",
        bottleneck: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not in_channels or min(in_channels) < 1 or num_classes < 2 or width < 2:
            raise ValueError(
                f"A segmentation head needs maps with channels, >= 2 classes (background counts) and a width >= 2, "
                f"got in_channels={in_channels}, num_classes={num_classes}, width={width}."
            )
        if norm not in ("group", "layer"):
            raise ValueError(f"norm must be 'group' or 'layer', got {norm!r}.")
        if bottleneck is not None and bottleneck < 1:
            raise ValueError(f"bottleneck must be at least 1, or None for none, got {bottleneck}.")
        self.in_channels = list(in_channels)
        self.num_classes = num_classes
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), _norm(norm, width), nn.Conv2d(width, width, 1, bias=False))
            for channels in in_channels
        )
        self.fused = nn.Sequential(_norm(norm, width), nn.ReLU())
        self.bottleneck = None if bottleneck is None else _Bottleneck(width, bottleneck)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self._start(torch.Generator().manual_seed(seed))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Compute logits at the resolution of the first map.

        Args:
            maps: (B, C_i, H_i, W_i), finest first.

        Returns:
            Logits (B, num_classes, H_0, W_0), before softmax.
        """
        size = [maps[0].shape[2], maps[0].shape[3]]
        z = torch.zeros(1, device=maps[0].device, dtype=maps[0].dtype)
        for number, projection in enumerate(self.projections):
            projected = projection(maps[number])
            if projected.shape[2] != size[0] or projected.shape[3] != size[1]:
                projected = F.interpolate(projected, size=size, mode="bilinear", align_corners=False)
            z = z + projected
        z = self.fused(z)
        if self.bottleneck is not None:
            z = self.bottleneck(z)
        return self.classifier(z)

    @torch.no_grad()
    def _start(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = module.in_channels**-0.5
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        if self.bottleneck is not None:
            self.bottleneck.up.weight.zero_()


class _Bottleneck(nn.Module):
    r"""Residual bottleneck :math:`z + W_{up}\,\mathrm{GELU}(W_{down} z)`, whose :math:`W_{up}` starts at zero."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, bottleneck, 1)
        self.up = nn.Conv2d(bottleneck, width, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Add the bottleneck's output to a map (B, width, H, W)."""
        return z + self.up(F.gelu(self.down(z)))


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of a map (B, C, H, W)."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Normalise a map (B, C, H, W)."""
        normed = F.layer_norm(z.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


def _norm(norm: str, width: int) -> nn.Module:
    if norm == "layer":
        return _ChannelNorm(width)
    # four channels or more: a group of one value, as a map of one position could have, cannot be normalised
    groups = next(
        number for number in (16, 8, 4, 2, 1) if number == 1 or (width % number == 0 and width // number >= 4)
    )
    return nn.GroupNorm(groups, width)


class FirstMapHead(nn.Module):
    """Return the first map; there is nothing to learn.

    Args:
        num_classes: number of channels of the map.

    Raises:
        ValueError: if it is below 2.

    Example:
        >>> FirstMapHead(2)([torch.zeros(1, 2, 4, 4)]).shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2 (the background counts), got {num_classes}.")
        self.in_channels = [num_classes]
        self.num_classes = num_classes

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return maps[0], (B, num_classes, H, W)."""
        return maps[0]
