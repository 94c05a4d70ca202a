"""Mask metrics of a MONAI evaluator over an epoch, for selecting a checkpoint; higher is better."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.utils import string_list_all_gather

from movl_monai.errors import MovlError
from movl_monai.evaluation.columns import column
from movl_monai.metrics.checks import NonFiniteLogitsError

__all__ = ["MeanCaseDice", "NegativePixelCrossEntropy"]


class _MaskMetric(Metric):
    """Base of metrics on logits (B, C, H, W), masks (B, H, W) and, if the batch has them, cases."""

    def __init__(self) -> None:
        super().__init__(lambda output: output, device="cpu")

    def iteration_completed(self, engine: Engine) -> None:
        """Update with the batch of the engine; overridden because the cases are in its batch and not in its output."""
        output = engine.state.output
        logits, masks = (_stacked(output, key) for key in ("pred", "label"))
        if not torch.isfinite(logits).all():
            raise NonFiniteLogitsError(
                "The network gave NaN or infinite logits on the validation images; expected finite numbers. Train with "
                "lower learning rates or without AMP."
            )
        # without cases every image is a separate case
        own = [f"{engine.state.iteration}-{index}" for index in range(len(logits))]
        cases = column(engine.state.batch, "case") or own
        self.update((logits.float(), masks.long(), [str(case) for case in cases]))


class MeanCaseDice(_MaskMetric):
    """Mean Dice over cases and over the classes except the background, at the network's size.

    Pixels of all slices of a volume are counted together. If neither truth nor prediction has a pixel of a class, its
    Dice is 1, as in the report.

    Example:
        >>> metric = MeanCaseDice()
        >>> truth = torch.tensor([[[0, 1], [1, 1]]])
        >>> metric.update((F.one_hot(torch.tensor([[[0, 0], [1, 1]]]), 2).permute(0, 3, 1, 2).float(), truth, ["a"]))
        >>> metric.compute()
        0.8
    """

    @reinit__is_reduced
    def reset(self) -> None:
        """Discard all counts."""
        self._counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(()))

    @reinit__is_reduced
    def update(self, output: tuple[torch.Tensor, torch.Tensor, list[str]]) -> None:
        """Add logits (B, C, H, W), masks (B, H, W) and the case of each image."""
        logits, masks, cases = output
        num_classes = logits.shape[1]
        predicted = logits.argmax(dim=1)
        for case, one, other in zip(cases, predicted, masks, strict=True):
            both = torch.bincount(one[one == other], minlength=num_classes)
            sizes = torch.bincount(one.flatten(), minlength=num_classes) + torch.bincount(
                other.flatten(), minlength=num_classes
            )
            self._counts[case] = self._counts[case] + np.stack([both.cpu().numpy(), sizes.cpu().numpy()])

    def compute(self) -> float:
        """Compute the metric over all processes."""
        counts = {case: value.tolist() for case, value in self._counts.items()}
        gathered: dict[str, np.ndarray] = {}
        # slices of a case from several processes are merged; identical counts from repeated processes are dropped
        for text in dict.fromkeys(string_list_all_gather([json.dumps(counts, sort_keys=True)])):
            for case, value in json.loads(text).items():
                gathered[case] = gathered.get(case, 0) + np.asarray(value, dtype=np.float64)
        if not gathered:
            raise NotComputableError("MeanCaseDice saw no images.")
        both, sizes = np.stack(list(gathered.values())).transpose(1, 0, 2)[:, :, 1:]
        return float(np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0).mean())


class NegativePixelCrossEntropy(_MaskMetric):
    """Mean log likelihood of the pixels' classes, in nats: the negative cross entropy, so that higher is better."""

    @reinit__is_reduced
    def reset(self) -> None:
        """Discard all sums."""
        self._sum, self._count = 0.0, 0

    @reinit__is_reduced
    def update(self, output: tuple[torch.Tensor, torch.Tensor, list[str]]) -> None:
        """Add logits (B, C, H, W) and masks (B, H, W)."""
        logits, masks, _ = output
        self._sum += float(F.cross_entropy(logits.double(), masks, reduction="sum"))
        self._count += masks.numel()

    def compute(self) -> float:
        """Compute the metric over this process's images; every process validates all images."""
        if not self._count:
            raise NotComputableError("NegativePixelCrossEntropy saw no images.")
        return -self._sum / self._count


def _stacked(output: Any, key: str) -> torch.Tensor:
    rows = output.get(key) if isinstance(output, Mapping) else [item.get(key) for item in output]
    if rows is None or (isinstance(rows, list) and any(row is None for row in rows)):
        raise MovlError(f"The engine's output has no '{key}'; this metric needs images with masks.")
    values = torch.stack([torch.as_tensor(row) for row in rows]) if isinstance(rows, list) else torch.as_tensor(rows)
    return values.detach()
