"""Solvers of heads without gradient steps: the exact linear probe, and label mappings of source classifiers."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from movl_monai.errors import ConfigError

from .features import FeaturesOf, extract_features

__all__ = ["HeadSolver", "LabelMappingFit"]


class HeadSolver(Protocol):
    """Solver of a network's head from training images."""

    def apply(self, network: nn.Module) -> float:
        """Set ``network.head``; return the L2 strength for its further training, 0 for none."""


class LabelMappingFit:
    """Fit the label mapping of a :class:`~movl_monai.heads.MappedHead` on prompted training images.

    At the start the prompt is the identity, which gives the usual mapping on plain images. With the stage's
    ``refit_head`` the mapping follows the prompt (ILM-VP and BLM fit once per epoch).

    Args:
        dataset: training images, with ``images`` and ``labels``.
        batch_size: images per forward pass.
        device: of the network.

    Raises:
        ConfigError: in ``apply``, if the network's head has no label mapping.

    Reference:
        Bahng et al., arXiv 2203.17274; Chen et al. (ILM-VP), arXiv 2211.11635.
    """

    def __init__(self, dataset: Any, *, batch_size: int = 32, device: str | torch.device = "cpu") -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.device = device

    def apply(self, network: nn.Module) -> float:
        """Fit the mapping of ``network.head`` on the features of the prompted images."""
        head: Any = network.head
        if not hasattr(head, "fit"):
            raise ConfigError(f"A label mapping needs a MappedHead, this network has a {type(head).__name__}.")
        features = extract_features(
            FeaturesOf(network), self.dataset.images, batch_size=self.batch_size, device=self.device, progress=False
        )
        head.fit(features.to(self.device), torch.as_tensor(self.dataset.labels).to(self.device))
        return 0.0
