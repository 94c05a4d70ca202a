"""Class weights by name or number, and sampling weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from movl_monai.errors import ConfigError, DataError

__all__ = [
    "ClassWeights",
    "balanced_sample_weights",
    "foreground_sample_weights",
    "resolve_class_weights",
    "resolve_finding_weights",
    "resolve_mask_weights",
]

ClassWeights = Literal["balanced"] | Sequence[float] | None


def resolve_class_weights(class_weights: ClassWeights, labels: torch.Tensor, num_classes: int) -> list[float] | None:
    """Return one weight per class, or None for all ones.

    Args:
        class_weights: "balanced" for N / (num_classes * count) as in scikit-learn, the weights themselves, or None.
        labels: training labels (N,), in 0 .. num_classes - 1.
        num_classes: number of classes.

    Raises:
        ConfigError: for another word, or another number of weights than classes.
        DataError: if "balanced" meets a class without images.

    Example:
        >>> resolve_class_weights("balanced", torch.tensor([0, 0, 0, 1]), 2)
        [0.6666666666666666, 2.0]
    """
    if class_weights is None:
        return None
    if class_weights == "balanced":
        counts = torch.bincount(torch.as_tensor(labels), minlength=num_classes).tolist()
        if 0 in counts:
            raise DataError(f"Every class needs training images for balanced weights, got counts {counts}.")
        return [len(labels) / (num_classes * count) for count in counts]
    if isinstance(class_weights, str) or len(class_weights) != num_classes:
        raise ConfigError(
            f"class_weights must be 'balanced', null, or {num_classes} numbers in the order of the classes, "
            f"got {class_weights!r}."
        )
    return [float(weight) for weight in class_weights]


def resolve_finding_weights(class_weights: ClassWeights, labels: torch.Tensor, num_findings: int) -> list[float] | None:
    """Return the weight of the positive images of each finding, or None for all ones.

    Args:
        class_weights: "balanced" for negative / positive images, the weights themselves, or None.
        labels: training labels of 1, 0 and NaN, (N, K).
        num_findings: K.

    Raises:
        ConfigError: for another word, or another number of weights than findings.
        DataError: if "balanced" meets a finding without positive or negative images.

    Example:
        >>> resolve_finding_weights("balanced", torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, float("nan")]]), 2)
        [3.0, 0.5]
    """
    if class_weights is None:
        return None
    if class_weights == "balanced":
        positive, negative = ((labels == value).sum(dim=0).tolist() for value in (1, 0))
        if 0 in positive or 0 in negative:
            raise DataError(
                f"Every finding needs positive and negative training images for balanced weights, got {positive} "
                f"positive and {negative} negative ones."
            )
        return [rest / count for count, rest in zip(positive, negative, strict=True)]
    if isinstance(class_weights, str) or len(class_weights) != num_findings:
        raise ConfigError(
            f"class_weights must be 'balanced', null, or {num_findings} numbers in the order of the findings, "
            f"got {class_weights!r}."
        )
    return [float(weight) for weight in class_weights]


def balanced_sample_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return one weight per image for a sampler that draws every class equally often.

    Args:
        labels: training labels (N,), in 0 .. num_classes - 1.
        num_classes: number of classes.

    Returns:
        float64 (N,), N / (num_classes * count of the image's class).

    Raises:
        ConfigError: for labels of several findings, or numbers.
        DataError: if a class has no images.

    Example:
        >>> balanced_sample_weights(torch.tensor([0, 0, 0, 1]), 2).tolist()
        [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    if torch.as_tensor(labels).is_floating_point():
        raise ConfigError(
            "Balanced sampling draws every class equally often, and images with several findings, or a number, have no "
            "class. Leave the overlay sampling_balanced out; for findings set `--class_weights balanced`."
        )
    weights = resolve_class_weights("balanced", labels, num_classes)
    return torch.tensor(weights, dtype=torch.float64)[torch.as_tensor(labels, dtype=torch.int64)]


def resolve_mask_weights(
    class_weights: ClassWeights, pixel_counts: torch.Tensor, class_names: Sequence[str]
) -> list[float] | None:
    """Return one weight per class of a segmentation, or None for all ones; check that every class has pixels.

    Args:
        class_weights: "balanced" for sqrt(N / (num_classes * count)) of the pixels, the weights themselves, or None.
            The root prevents weights in the thousands for classes of few pixels.
        pixel_counts: of each class in the training masks, (num_classes,).
        class_names: of the classes, the background first.

    Raises:
        DataError: if a class has no pixel in the training masks.
        ConfigError: for another word, or another number of weights than classes.

    Example:
        >>> resolve_mask_weights("balanced", torch.tensor([32, 2]), ["background", "lesion"])
        [0.7288689868556626, 2.9154759474226504]
    """
    absent = [str(name) for name, count in zip(class_names, pixel_counts.tolist(), strict=True) if not count]
    if absent:
        raise DataError(
            f"No training mask has a pixel of the class {', '.join(absent)}: nothing could be learned of it. Check the "
            "masks and what their values mean (mask_threshold, mask_values), or leave the class out."
        )
    if class_weights == "balanced":
        total = int(pixel_counts.sum())
        return [(total / (len(pixel_counts) * count)) ** 0.5 for count in pixel_counts.tolist()]
    return resolve_class_weights(class_weights, torch.empty(0, dtype=torch.int64), len(class_names))


def foreground_sample_weights(masks: torch.Tensor, fraction: float = 0.5) -> torch.Tensor:
    """Return one weight per image for a sampler that draws images with foreground more often.

    Most slices of a volume may contain only background. If fewer than ``fraction`` of the images have foreground, an
    image with foreground is drawn with that probability, uniformly among them; else all images are drawn uniformly.

    Args:
        masks: classes (N, H, W), 0 is the background.
        fraction: smallest share of draws with foreground, in (0, 1).

    Returns:
        float64 (N,).

    Raises:
        ConfigError: if ``fraction`` is not in (0, 1).
        DataError: if no mask has a foreground pixel.

    Example:
        >>> masks = torch.zeros(4, 2, 2, dtype=torch.uint8)
        >>> masks[3] = 1
        >>> foreground_sample_weights(masks, 0.5).tolist()
        [0.16666666666666666, 0.16666666666666666, 0.16666666666666666, 0.5]
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction must be in (0, 1), got {fraction}.")
    shows = (masks.flatten(1) > 0).any(dim=1)
    count, total = int(shows.sum()), len(masks)
    if not count:
        raise DataError("No training mask has a foreground pixel; check the masks and what their values mean.")
    if count >= fraction * total:
        return torch.full((total,), 1 / total, dtype=torch.float64)
    inside, outside = fraction / count, (1 - fraction) / (total - count)
    return torch.where(shows, torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64))
