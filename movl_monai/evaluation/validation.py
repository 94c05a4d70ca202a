"""Metrics of a MONAI evaluator over an epoch, for selecting a checkpoint; higher is better for all of them."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.utils import evenly_divisible_all_gather, string_list_all_gather

from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError, DataError, MovlError
from movl_monai.evaluation.collect import column, logits_and_labels
from movl_monai.metrics import classification_metrics as metrics
from movl_monai.metrics.classification_metrics import (
    NonFiniteLogitsError,
    UndefinedMetricError,
    check_finite,
    refuse_probabilities,
)
from movl_monai.metrics.selecting import selecting_figure

__all__ = [
    "BalancedAccuracy",
    "EpochMetric",
    "LabelOrder",
    "MacroAUROC",
    "MacroFindingAUROC",
    "MeanCaseDice",
    "MedianQuadraticKappa",
    "NegativeBinaryCrossEntropy",
    "NegativeCrossEntropy",
    "NegativeMAE",
    "NegativeRMSE",
    "NegativePixelCrossEntropy",
    "QuadraticKappa",
    "key_metric",
]

LabelOrder = Literal["nominal", "ordinal"]
_LOGGER = logging.getLogger(__name__)


class EpochMetric(Metric):
    """Base of figures over all logits and labels of an epoch.

    It reads the output of MONAI's evaluators, decollated or not, and gathers from all processes. A
    ``DistributedSampler`` repeats a few images to fill the last batch: these count twice here, but once in the report.

    Args:
        output_transform: maps the engine's output to logits (B, C) before softmax, and labels (B,).

    Raises:
        NonFiniteLogitsError: at the end of an epoch, if a logit is NaN or infinite.
        MovlError: if ``pred`` holds probabilities.
        DataError: if the figure is undefined on these images and it is the key metric; any other metric is NaN.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = logits_and_labels) -> None:
        self._logits: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []
        self._warned = False
        super().__init__(output_transform, device="cpu")

    @reinit__is_reduced
    def reset(self) -> None:
        """Discard all logits and labels."""
        self._logits, self._labels = [], []

    @reinit__is_reduced
    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Add one batch, logits (B, C) and labels (B,), or one image, (C,) and ()."""
        logits, labels = (torch.as_tensor(part).detach().cpu() for part in output)
        self._logits.append(logits.reshape(-1, logits.shape[-1]).double())
        if labels.is_floating_point():  # of findings (B, K), of a regression (B,)
            self._labels.append(labels.reshape(len(self._logits[-1]), -1).squeeze(1).double())
        else:
            self._labels.append(labels.reshape(-1).long())

    def compute(self) -> float:
        """Compute the figure over all processes; NaN if undefined."""
        if not self._logits:
            raise NotComputableError(f"{type(self).__name__} saw no images.")
        logits = evenly_divisible_all_gather(torch.cat(self._logits), concat=True).numpy()
        labels = evenly_divisible_all_gather(torch.cat(self._labels), concat=True).numpy()
        check_finite(logits)
        self.check(labels, logits)
        return self.figure(labels, logits)

    def check(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """Refuse probabilities (N, C), and log once if labels (N,) lack classes."""
        refuse_probabilities(logits)
        if not self._warned and len(np.unique(labels)) < logits.shape[1]:
            self._warned = True
            _LOGGER.warning(
                "%s: only %d of %d classes have images here; it is the mean over those.",
                type(self).__name__,
                len(np.unique(labels)),
                logits.shape[1],
            )

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """Compute the figure of labels (N,) and logits (N, C)."""
        raise NotImplementedError(f"{type(self).__name__} must define figure().")

    def completed(self, engine: Engine, name: str) -> None:
        """Store the figure in ``engine.state.metrics``."""
        super().completed(engine, name)
        if getattr(engine.state, "key_metric_name", None) == name and np.isnan(engine.state.metrics[name]):
            raise DataError(
                f"{name} has no value on the validation images (one class or no label), so it cannot select a "
                "checkpoint. Give labeled images of two or more classes to the val split, or select by "
                "NegativeCrossEntropy."
            )


class BalancedAccuracy(EpochMetric):
    """Mean sensitivity over the classes that have images; a missing class is logged once as a warning.

    Example:
        >>> metric = BalancedAccuracy()
        >>> metric.update((torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        0.75
    """

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return float(np.nanmean(metrics.sensitivity_per_class(labels, logits)))


class MacroAUROC(EpochMetric):
    """Mean one-vs-rest AUROC over the classes that have images; NaN if all images are of one class."""

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        values = metrics.auroc_per_class(labels, metrics.softmax(logits))
        return float(np.nan if np.isnan(values).all() else np.nanmean(values))


class NegativeCrossEntropy(EpochMetric):
    """Mean log likelihood of the labels, in nats: the negative cross entropy, so that higher is better."""

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return -metrics.cross_entropy(labels, logits)


class QuadraticKappa(EpochMetric):
    """Cohen's kappa with quadratic weights, for ordered classes; NaN if all images are of one class."""

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        try:
            return metrics.quadratic_kappa(labels, logits)
        except UndefinedMetricError:
            return float("nan")


class MedianQuadraticKappa(EpochMetric):
    """Cohen's kappa with quadratic weights of the median grades; NaN if all images are of one grade.

    Example:
        >>> metric = MedianQuadraticKappa()
        >>> metric.update((torch.tensor([[0.4, 0.3, 0.3], [0.8, 0.1, 0.1]]).log(), torch.tensor([1, 0])))
        >>> metric.compute()
        1.0
    """

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return _on_all(selecting_figure("median_quadratic_kappa", labels, logits), labels)[0]


class _TargetMetric(EpochMetric):
    """Base of figures of several findings, (N, K), or of a number, (N, 1), with NaN for unknown labels."""

    def check(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """Accept every label."""


class MacroFindingAUROC(_TargetMetric):
    """Mean AUROC over the findings with positive and negative images; NaN if there is none.

    Example:
        >>> metric = MacroFindingAUROC()
        >>> metric.update((torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])))
        >>> metric.compute()
        0.5
    """

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return _on_all(selecting_figure("macro_auroc", labels, logits), labels)[0]


class NegativeBinaryCrossEntropy(_TargetMetric):
    """Mean log likelihood of the known findings, in nats: the negative cross entropy, so that higher is better."""

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return -_on_all(selecting_figure("macro_auroc", labels, logits), labels)[1]


class NegativeMAE(_TargetMetric):
    """Negative mean absolute error of a number, in its unit, so that higher is better."""

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return _on_all(selecting_figure("negative_mae", labels, logits), labels)[0]


class NegativeRMSE(_TargetMetric):
    """Negative root mean squared error of a number, in its unit, so that higher is better."""

    def figure(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """See the class."""
        return -_on_all(selecting_figure("negative_mae", labels, logits), labels)[1]


def _on_all(figure: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], labels: np.ndarray) -> tuple[float, float]:
    value, loss = figure(np.ones((len(labels), 1)))
    return float(value[0]), float(loss[0])


def key_metric(
    label_order: LabelOrder, *, class_names: Sequence[str], task: str = "classification"
) -> dict[str, EpochMetric]:
    """Return the metric that selects a checkpoint by its name, as MONAI's evaluators take it.

    Args:
        label_order: "ordinal" for grades, for which small errors are better than large ones: quadratic weighted kappa.
            "nominal" for classes without an order: balanced accuracy.
        class_names: names in the order of the logits; ordinal names must be increasing integers.
        task: "ordinal" selects by the quadratic weighted kappa of the median grades, "multilabel" by the macro AUROC of
            the findings and "regression" by the mean absolute error; the last two whatever the label_order.

    Raises:
        ConfigError: for another label_order or one that the task excludes, or for ordinal classes that are not
            increasing integers.

    Example:
        >>> list(key_metric("ordinal", class_names=["0", "1", "2"]))
        ['val_quadratic_kappa']
    """
    if labels_of(task).several:
        return {"val_macro_auroc": MacroFindingAUROC()}
    if labels_of(task).number:
        return {"val_negative_mae": NegativeMAE()}
    ordered = labels_of(task).ordered
    if ordered and label_order == "nominal":
        raise ConfigError(
            f"The task {task} is about grades, and --label_order nominal takes classes without an order. Leave out one "
            "of them."
        )
    if label_order == "nominal":
        return {"val_balanced_accuracy": BalancedAccuracy()}
    if label_order != "ordinal":
        raise ConfigError(f"label_order must be 'nominal' or 'ordinal', got {label_order!r}.")
    grades = [_integer(name) for name in class_names]
    if None in grades or grades != sorted(set(grades)):  # type: ignore[type-var]
        raise ConfigError(
            f"With label_order='ordinal' the classes must be integers in growing order (0, 1, 2, ...), got "
            f"{list(class_names)}. Name them by their grade, or set label_order to 'nominal'."
        )
    return (
        {"val_median_quadratic_kappa": MedianQuadraticKappa()} if ordered else {"val_quadratic_kappa": QuadraticKappa()}
    )


def _integer(name: str) -> int | None:
    try:
        return int(name)
    except ValueError:
        return None


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
        return float(np.mean(list(self.per_case().values())))

    def per_case(self) -> dict[str, float]:
        """Compute the mean Dice over classes of each case, over all processes."""
        counts = {case: value.tolist() for case, value in self._counts.items()}
        gathered: dict[str, np.ndarray] = {}
        # slices of a case from several processes are merged; identical counts from repeated processes are dropped
        for text in dict.fromkeys(string_list_all_gather([json.dumps(counts, sort_keys=True)])):
            for case, value in json.loads(text).items():
                gathered[case] = gathered.get(case, 0) + np.asarray(value, dtype=np.float64)
        if not gathered:
            raise NotComputableError("MeanCaseDice saw no images.")
        both, sizes = np.stack(list(gathered.values())).transpose(1, 0, 2)[:, :, 1:]
        dice = np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0).mean(axis=1)
        return dict(zip(gathered, dice.tolist(), strict=True))


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
