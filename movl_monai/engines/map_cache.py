"""Cached feature maps for a decoder, if nothing before it trains and they fit."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from movl_monai.errors import ConfigError

from .features import prepare_image_batch
from .tokens import TokenSet

__all__ = ["FromMaps", "MapSet"]

_LOGGER = logging.getLogger(__name__)
_MEGABYTE = 1e6


class FromMaps(nn.Module):
    """Segmenter that starts at the feature maps instead of the image.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedSegmenter`; :func:`~movl_monai.engines.unwrap` returns it.
        shapes: (C, H, W) of every map.
        size: (H, W) of the images.
    """

    def __init__(self, network: Any, shapes: list[tuple[int, int, int]], size: tuple[int, int]) -> None:
        super().__init__()
        self.module = network
        self.shapes = shapes
        self.size = size

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, num_classes, H, W) from maps that are flattened to one row per image, (B, numbers)."""
        parts = rows.split([int(np.prod(shape)) for shape in self.shapes], dim=1)
        maps = [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return self.module.decode(maps, list(self.size))


class MapSet(TokenSet):
    """Feature maps of a training set, for a frozen backbone without prompt and adapter.

    They are stored like the tokens of :class:`~movl_monai.engines.TokenSet`, all maps of an image in one row of
    float16. They are large: 0.3 MB per image for EfficientNet-Lite0 at 224, 3 MB for ResNet-50. Their size is logged
    before they are computed, and above ``limit_mb`` training does not use them.

    Args:
        dataset: with ``images`` (N, 3, H, W) uint8.
        network: an :class:`~movl_monai.networks.AdaptedSegmenter` of which only the head trains.
        limit_mb: upper limit on their size, in MB (10^6 bytes).
        batch_size: images per forward pass.
        device: of the network.
        cache_dir: folder for the file; None keeps the maps in memory.
        progress: show a progress bar.

    Raises:
        ConfigError: if something before the decoder trains: the backbone, a prompt or an adapter.
        MovlError: see :class:`~movl_monai.engines.TokenSet`.
    """

    def __init__(
        self,
        dataset: Any,
        network: Any,
        *,
        limit_mb: float = 4000,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        cache_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        _check_frozen(network)
        self.dataset = dataset
        self.network = network
        self.limit_mb = limit_mb
        self.start = -1  # after all blocks; part of the file's name
        self.batch_size = batch_size
        self.device = device
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.progress = progress
        self._values: np.ndarray | None = None
        self._shapes: list[tuple[int, int, int]] = []

    @property
    def what(self) -> str:
        """Description of the cached values, for messages."""
        return f"The maps of {self.network.backbone.spec.name}"

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of every map."""
        if not self._shapes:
            self._shapes = [(int(one.shape[1]), int(one.shape[2]), int(one.shape[3])) for one in self._maps(0, 1)]
        return self._shapes

    def fits(self) -> bool:
        """Log the size of all maps, and return True if it is at most ``limit_mb``."""
        size = 2 * len(self.dataset.images) * sum(int(np.prod(shape)) for shape in self.shapes) / _MEGABYTE
        fits = size <= self.limit_mb
        _LOGGER.info(
            "%s take %.1f MB as float16 for %d images, the limit is %.1f MB: they are %s.",
            self.what,
            size,
            len(self.dataset.images),
            self.limit_mb,
            "computed once and kept" if fits else "not kept but computed in every step",
        )
        return fits

    def behind(self, network: Any) -> nn.Module:
        """Return a network that starts at the maps instead of the image."""
        rows, columns = self.dataset.images.shape[2:]
        return FromMaps(network, self.shapes, (int(rows), int(columns)))

    def _tokens(self, start: int, stop: int) -> torch.Tensor:
        return torch.cat([one.flatten(1) for one in self._maps(start, stop)], dim=1).half().cpu()

    @torch.inference_mode()
    def _maps(self, start: int, stop: int) -> list[torch.Tensor]:
        network = self.network.to(self.device)
        image, _ = prepare_image_batch({"image": self.dataset.images[start:stop]}, self.device)
        return list(network.maps(image))


def _check_frozen(network: Any) -> None:
    trains = [
        name
        for name, holds in (
            ("the backbone", not network.backbone.frozen),
            ("a prompt", not isinstance(network.prompt, nn.Identity)),
            ("an adapter", network.adapter is not None),
        )
        if holds
    ]
    if trains:
        raise ConfigError(
            f"Maps can be cached where the decoder alone trains, this network has {' and '.join(trains)} that trains "
            "before it; leave the map cache out."
        )
