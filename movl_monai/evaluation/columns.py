"""Extract columns from a batch or an output of a MONAI engine, decollated or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from movl_monai.errors import MovlError

__all__ = ["column", "label_column", "logits_and_labels", "logits_column"]


def column(data: Any, key: str) -> list[Any] | None:
    """Return one value per image as Python objects, or None if the key is missing.

    Args:
        data: a collated dictionary, or a list of dictionaries as MONAI's engines make with ``decollate=True``.
        key: name of the column.

    Example:
        >>> column({"label": torch.tensor([1, 0])}, "label"), column([{"id": "a"}, {"id": "b"}], "id")
        ([1, 0], ['a', 'b'])
    """
    values = data.get(key) if isinstance(data, Mapping) else [item.get(key) for item in data]
    if values is None or (isinstance(values, list) and all(value is None for value in values)):
        return None
    if isinstance(values, torch.Tensor):
        return list(values.detach().cpu().tolist())
    return [value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value for value in values]


def logits_column(output: Any, key: str = "pred") -> torch.Tensor:
    """Return the logits (B, C) of an engine's output, float32 or wider, on the CPU.

    Raises:
        MovlError: if there are none, or they are not one vector per image.
    """
    if isinstance(output, Mapping):
        values = output.get(key)
    else:
        rows = [item[key] for item in output if key in item]
        values = torch.stack([torch.as_tensor(row) for row in rows]) if rows else None
    if values is None:
        raise MovlError(f"The engine's output has no '{key}'; expected the logits (B, C) there.")
    logits = torch.as_tensor(values).detach().cpu()
    if logits.ndim != 2:
        raise MovlError(f"'{key}' must be logits (B, C), got {tuple(logits.shape)}; a classifier is expected.")
    return logits if logits.dtype == torch.float64 else logits.float()


def label_column(data: Any) -> list[int] | None:
    """Return the labels as integers, -1 for an image without one; None if no image has one."""
    values = column(data, "label")
    return None if values is None else [-1 if value is None else int(value) for value in values]


def logits_and_labels(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, C) logits and (B,) labels of a supervised engine's output; a pair is returned unchanged.

    It is the default ``output_transform`` of the metrics for validation.
    """
    if isinstance(output, tuple) and len(output) == 2:
        return output
    labels = label_column(output)
    if labels is None:
        raise MovlError("The engine's output has no 'label'; this metric needs labeled images.")
    return logits_column(output), torch.tensor(labels, dtype=torch.int64)
