"""Kinds of labels that a choice of images keeps in balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["label_counts", "strata", "stratum_name"]

_BINS = 5  # of numbers


def strata(items: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return a number for each item, by id: its class, its rarest finding (-1 for none), or the fifth of its number.

    Args:
        items: with ``label``, None for images with masks, and ``id``.

    Example:
        >>> strata([{"id": "a", "label": (1, 1)}, {"id": "b", "label": (1, None)}, {"id": "c", "label": (0, 0)}])
        {'a': 1, 'b': 0, 'c': -1}
    """
    labels = {item["id"]: item["label"] for item in items}
    if any(isinstance(label, tuple) for label in labels.values()):
        counts = Counter(place for label in labels.values() for place, value in enumerate(label) if value)
        found = {name: [place for place, value in enumerate(label) if value] for name, label in labels.items()}
        return {
            name: min(places, key=lambda place: (counts[place], place), default=-1) for name, places in found.items()
        }
    if any(isinstance(label, float) for label in labels.values()):
        order = sorted(labels, key=lambda name: (labels[name], name))
        bins = min(_BINS, len(order))
        return {name: rank * bins // len(order) for rank, name in enumerate(order)}
    return {name: -1 if label is None else label for name, label in labels.items()}


def stratum_name(stratum: int, items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> str:
    """Return the name of a number of :func:`strata`, for messages."""
    if any(isinstance(item["label"], float) for item in items):
        return f"fifth {stratum + 1} of the numbers"
    return class_names[stratum] if 0 <= stratum < len(class_names) else "no finding" if stratum < 0 else str(stratum)


def label_counts(items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, int]:
    """Count images by class, by finding (an image counts for each), with a number, with a mask and without a label."""
    counts: Counter[str] = Counter()
    for item in items:
        label = item["label"]
        if label is None:
            counts["with a mask" if "mask" in item else "(no label)"] += 1
        elif isinstance(label, tuple):
            found = [name for name, value in zip(class_names, label, strict=True) if value]
            counts.update(found or ["(no finding)"])
        else:
            counts[f"with {class_names[0]}" if isinstance(label, float) else class_names[label]] += 1
    return dict(counts)
