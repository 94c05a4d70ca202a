"""Detection of labels that look like several labels of one image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from movl_monai.data.entries import Entry
from movl_monai.errors import DataError

__all__ = ["check_one_label_each", "joined_labels"]

_SEPARATORS = re.compile(r"\s*[|;,]\s*")


def joined_labels(labels: Iterable[str]) -> list[str]:
    """Return the labels that contain `|`, or that join other labels with `;` or a comma.

    Example:
        >>> joined_labels(["a", "b", "a;b", "c|d", "pneumonia, viral"])
        ['a;b', 'c|d']
    """
    parts = {label: [part for part in _SEPARATORS.split(label) if part] for label in sorted(set(labels))}
    alone = {label for label, found in parts.items() if len(found) == 1}
    joined = [label for label, found in parts.items() if len(found) > 1]
    return [label for label in joined if "|" in label or alone & set(parts[label])]


def check_one_label_each(entries: Sequence[Entry], known: Iterable[str] = ()) -> None:
    """Refuse labels that look like several labels of one image.

    Args:
        entries: with their labels.
        known: class names, which are exempt.

    Raises:
        DataError: with some of them.
    """
    known = set(known)
    joined = [label for label in joined_labels(entry.label for entry in entries if entry.label) if label not in known]
    if joined:
        raise DataError(
            f"Labels look like several labels per image: {', '.join(map(repr, joined[:5]))}. This version takes one "
            "label per image: choose a column with one label each, or give the classes names without '|', ';' and ','."
        )
