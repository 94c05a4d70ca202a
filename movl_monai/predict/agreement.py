"""Agreement of predictions with the labels of a list: accuracy and confusion matrix of each split."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["agreement_csv", "agreement_text", "compare_labels"]

_MOST_CLASSES = 8  # in a matrix on the terminal


def compare_labels(
    rows: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    splits: Mapping[str, str],
    class_names: Sequence[str],
) -> list[dict[str, Any]]:
    """Compare predicted classes with labels, split by split.

    Args:
        rows: rows of a prediction; those without ``predicted`` do not count.
        labels: label by id; those that are none of the classes do not count.
        splits: split by id; "" for images without one.
        class_names: in the order of the matrix.

    Returns:
        for each split with labels: ``split``, ``images``, ``accuracy``, ``balanced_accuracy`` (mean over the labels
        that occur), and ``confusion``, rows for labels and columns for predictions.

    Example:
        >>> rows = [{"id": "0", "predicted": "a"}, {"id": "1", "predicted": "a"}]
        >>> (found,) = compare_labels(rows, {"0": "a", "1": "b"}, {}, ["a", "b"])
        >>> found["accuracy"], found["confusion"]
        (0.5, [[1, 0], [1, 0]])
    """
    places = {name: place for place, name in enumerate(class_names)}
    counts: dict[str, np.ndarray] = {}
    for row in rows:
        label, predicted = places.get(labels.get(row["id"], "")), places.get(row.get("predicted", ""))
        if label is not None and predicted is not None:
            empty = np.zeros((len(places), len(places)), dtype=int)
            counts.setdefault(splits.get(row["id"], ""), empty)[label, predicted] += 1
    return [_figures(split, counts[split]) for split in sorted(counts)]


def _figures(split: str, confusion: np.ndarray) -> dict[str, Any]:
    there = confusion.sum(axis=1) > 0
    recalls = confusion.diagonal()[there] / confusion.sum(axis=1)[there]
    return {
        "split": split,
        "images": int(confusion.sum()),
        "accuracy": float(confusion.trace() / confusion.sum()),
        "balanced_accuracy": float(recalls.mean()),
        "confusion": confusion.tolist(),
    }


def agreement_csv(found: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> str:
    """Return the confusion matrices as CSV: a row for each split and label, a column for each predicted class."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["split", "label", *(f"predicted_{name}" for name in class_names)])
    for each in found:
        writer.writerows(
            [each["split"], name, *counts] for name, counts in zip(class_names, each["confusion"], strict=True)
        )
    return stream.getvalue()


def agreement_text(
    found: Sequence[Mapping[str, Any]], splits: Mapping[str, str], class_names: Sequence[str]
) -> list[str]:
    """Return lines for people: the figures of each split, and the matrix if there are few classes."""
    lines = []
    if len(names := Counter(splits.values())) > 1:
        counts = ", ".join(f"{name} {names[name]}" for name in sorted(names))
        lines.append(f"The list names splits ({counts}), all of which were predicted; `--split test` predicts one.")
    for each in found:
        of_split = f" of the split {each['split']}" if each["split"] else ""
        lines.append(
            f"Against the list's labels, {each['images']} images{of_split}: accuracy {each['accuracy']:.3f}, balanced "
            f"accuracy {each['balanced_accuracy']:.3f}."
        )
        if len(class_names) <= _MOST_CLASSES:
            lines += _matrix(each["confusion"], class_names)
    return lines


def _matrix(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> list[str]:
    width = max(len("label"), *(len(name) for name in class_names), *(len(str(n)) for row in confusion for n in row))
    head = "  ".join(f"{name:>{width}}" for name in class_names)
    rows = [
        f"  {name:<{width}}  " + "  ".join(f"{count:>{width}}" for count in counts)
        for name, counts in zip(class_names, confusion, strict=True)
    ]
    return [f"  {'label':<{width}}  {head}  (predicted)", *rows]
