"""Cached features of the instances of units, from which training starts."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from movl_monai.engines.features import FeatureSet
from movl_monai.errors import ConfigError

__all__ = ["FromInstances", "InstanceSet", "cached_features"]


class FromInstances(nn.Module):
    """Network for units that starts at the features of the instances.

    Args:
        network: a :class:`~movl_monai.networks.UnitClassifier`; :func:`~movl_monai.engines.unwrap` returns it.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.module = network

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, num_classes) from the rows of :meth:`InstanceSet.rows`."""
        return self.module.from_instances(rows[:, :, :-1], rows[:, :, -1] > 0)[0]


class InstanceSet(FeatureSet):
    """Features of the instances of a data set of units, computed once.

    It is what a trainer and an evaluator take as ``tokens``, and the linear probe as its training or validation set.

    Args:
        dataset: a :class:`~movl_monai.data.UnitDataset`.
        encoder: the frozen backbone.
        instances_per_step: number of instances of a unit that are drawn in each training step; None takes all.
        options: of :class:`~movl_monai.engines.FeatureSet`.

    Raises:
        ConfigError: if ``instances_per_step`` is below 1.
    """

    def __init__(
        self, dataset: Any, encoder: nn.Module, *, instances_per_step: int | None = None, **options: Any
    ) -> None:
        if instances_per_step is not None and instances_per_step < 1:
            raise ConfigError(f"instances_per_step must be at least 1, or null for all, got {instances_per_step}.")
        super().__init__(dataset, encoder, **options)
        self.instances_per_step = instances_per_step

    @property
    def instances(self) -> torch.Tensor:
        """Features (number of instances, F), float32."""
        return super().values

    @property
    def values(self) -> torch.Tensor:
        """Mean features of the units (N, F)."""
        return torch.stack([self.instances[rows.start : rows.stop].mean(dim=0) for rows in self.dataset.ranges])

    def pooled(self, network: Any) -> torch.Tensor:
        """Compute the features (N, F) at the head of a network, with its present pooling; None for the mean."""
        if network is None:
            return self.values
        found = []
        with torch.no_grad():
            for rows in self.dataset.ranges:
                instances = self.instances[None, rows.start : rows.stop].to(self.device)
                mask = torch.ones(1, len(rows), dtype=torch.bool, device=instances.device)
                found.append(network.pooling.to(self.device)(instances, mask)[0].cpu())
        return torch.cat(found)

    def warm_start(self, network: Any) -> None:
        """Fit the start of a pooling that has one to the training units; the head is solved before."""
        start = getattr(network.pooling, "warm_start", None)
        if start is None:
            return
        rows = self._padded(range(len(self.dataset.ranges)), most=None).to(self.device)
        with torch.no_grad():
            logits = network.instance_logits(rows[:, :, :-1])
        start(logits, rows[:, :, -1] > 0, self.labels.to(self.device))

    def fits(self) -> bool:
        """Return True: the features of a unit are small."""
        return True

    def behind(self, network: Any) -> nn.Module:
        """Return a network that starts at the features of instances."""
        return FromInstances(network)

    def rows(self, index: torch.Tensor, device: str | torch.device = "cpu") -> torch.Tensor:
        """Return the instances of units, (B, n, F + 1) float32; the last value is 1, or 0 for padding.

        With ``instances_per_step`` that many are drawn at random, without replacement.

        Args:
            index: (B,), numbers of the units.
            device: destination.
        """
        return self._padded(torch.as_tensor(index).tolist(), most=self.instances_per_step).to(device)

    def _padded(self, units: Any, *, most: int | None) -> torch.Tensor:
        parts = []
        for unit in units:
            rows = self.dataset.ranges[unit]
            part = self.instances[rows.start : rows.stop]
            if most is not None and len(part) > most:
                part = part[torch.randperm(len(part))[:most].sort().values]
            parts.append(torch.nn.functional.pad(part, (0, 1), value=1.0))
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)


def cached_features(
    dataset: Any,
    encoder: nn.Module,
    *,
    instances_per_step: int | None = None,
    device: str | torch.device = "cpu",
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> FeatureSet:
    """Return the features of a data set: a :class:`FeatureSet`, or an :class:`InstanceSet` for units.

    Args:
        dataset: an :class:`~movl_monai.data.ImageDataset` or :class:`~movl_monai.data.UnitDataset`.
        encoder: the frozen backbone.
        instances_per_step: see :class:`InstanceSet`.
        device: of the encoder.
        cache_dir: folder for the files; None keeps the features in memory.
        options: further options of :class:`FeatureSet`.

    Raises:
        ConfigError: if ``instances_per_step`` is given for images.
    """
    options |= {"device": device, "cache_dir": cache_dir}
    if hasattr(dataset, "ranges"):
        return InstanceSet(dataset, encoder, instances_per_step=instances_per_step, **options)
    if instances_per_step is not None:
        raise ConfigError("instances_per_step is for series, studies and patients; add an overlay `unit_*`.")
    return FeatureSet(dataset, encoder, **options)
