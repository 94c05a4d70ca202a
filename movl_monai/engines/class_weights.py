"""Class weights by name or number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from movl_monai.errors import ConfigError, DataError

__all__ = ["ClassWeights", "balanced_sample_weights", "resolve_class_weights"]

ClassWeights = Literal["balanced"] | Sequence[float] | None


def resolve_class_weights(class_weights: ClassWeights, labels: torch.Tensor, num_classes: int) -> list[float] | None:
    """Return one weight per class, or None for all ones.

    Args:
        class_weights: "balanced" for N / (num_classes * count) as scikit-learn has it, the weights themselves, or None.
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


def balanced_sample_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return one weight per image with which a weighted sampler draws every class equally often.

    Args:
        labels: training labels (N,), in 0 .. num_classes - 1.
        num_classes: number of classes.

    Returns:
        float64 (N,), N / (num_classes * count of the image's class).

    Raises:
        DataError: if a class has no images.

    Example:
        >>> balanced_sample_weights(torch.tensor([0, 0, 0, 1]), 2).tolist()
        [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    weights = resolve_class_weights("balanced", labels, num_classes)
    return torch.tensor(weights, dtype=torch.float64)[torch.as_tensor(labels, dtype=torch.int64)]
