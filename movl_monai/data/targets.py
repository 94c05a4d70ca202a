"""Labels of each task as values of an item, and as one tensor of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch

from movl_monai.errors import ConfigError

__all__ = ["TASKS", "TaskName", "check_task", "item_label", "label_tensor", "no_label"]

TaskName = Literal["classification", "ordinal", "multilabel", "regression"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
"""Tasks whose labels are of whole images; those of masks have no label."""

UNKNOWN = -1
"""Number of a class that is not known; an unknown finding or number is NaN."""


def check_task(name: str) -> TaskName:
    """Return the name of a task.

    Raises:
        ConfigError: for another one.
    """
    if name not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {name!r}.")
    return name


def no_label(task: str, class_names: Sequence[str]) -> Any:
    """Return the label of an image without one: -1, NaN, or a list of NaN.

    Example:
        >>> no_label("classification", ["no", "yes"]), no_label("multilabel", ["Effusion", "Mass"])
        (-1, [nan, nan])
    """
    if task == "multilabel":
        return [float("nan")] * len(class_names)
    return float("nan") if task == "regression" else UNKNOWN


def item_label(label: Any, task: str, class_names: Sequence[str]) -> Any:
    """Return the label of an item as numbers.

    Args:
        label: of an item: an integer, a float, a sequence of 1, 0 and None for each finding, or None.
        task: name of the task.
        class_names: names of the outputs.

    Returns:
        An integer (-1 if unknown); for a regression a float; for several findings a list of floats; NaN if unknown.

    Example:
        >>> item_label((1, None), "multilabel", ["Effusion", "Mass"])
        [1.0, nan]
    """
    if label is None:
        return no_label(task, class_names)
    if task == "multilabel":
        return [float("nan") if value is None else float(value) for value in label]
    return float(label) if task == "regression" else int(label)


def label_tensor(items: Sequence[Mapping[str, Any]], task: str, class_names: Sequence[str]) -> torch.Tensor:
    """Return the labels of N items: int64 (N,); float32 (N, K) of K findings, or (N,) of a regression."""
    values = [item_label(item["label"], task, class_names) for item in items]
    if task == "multilabel":
        return torch.tensor(values, dtype=torch.float32).reshape(len(values), len(class_names))
    return torch.tensor(values, dtype=torch.float32 if task == "regression" else torch.int64)
