"""Division of images into parts, with no patient in two parts and every class in each part."""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from movl_monai.data.entries import natural_sorted
from movl_monai.errors import DataError

__all__ = ["grouped_split"]

_MAX_FOLDS = 10
_ATTEMPTS = 5


def grouped_split(labels: Sequence[str], groups: Sequence[str], *, fractions: Sequence[float], seed: int) -> list[int]:
    """Split images into parts that share no group and have similar class proportions.

    :class:`sklearn.model_selection.StratifiedGroupKFold` makes k <= 10 shuffled folds, with the k whose whole folds
    come nearest to the fractions (0.6, 0.2, 0.2 are 3, 1 and 1 of 5 folds). Only assignments of folds to parts that
    give every part every class are candidates. The one nearest to the fractions in each class is chosen; without a
    candidate, other shuffles and fold counts are tried. Groups are never divided, so with few or large groups the parts
    only approximate the fractions.

    Args:
        labels: class of each image.
        groups: group (patient) of each image.
        fractions: shares of two or more parts, each > 0; they are normalised.
        seed: of the shuffle. The result depends on the images, not on their order.

    Returns:
        Part of each image.

    Raises:
        DataError: if a class has fewer groups than parts, or no division has every class in every part.

    Example:
        >>> labels, groups = ["a", "b"] * 5, ["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4", "p5", "p5"]
        >>> parts = grouped_split(labels, groups, fractions=(0.6, 0.2, 0.2), seed=0)
        >>> [parts.count(part) for part in range(3)]
        [6, 2, 2]
    """
    members: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        members[label].add(group)
    short = [label for label in natural_sorted(members) if len(members[label]) < len(fractions)]
    if 2 * len(short) > len(members) > 2:
        # most likely folders of patients, taken for classes: their names are not repeated
        raise DataError(
            f"{len(short)} of {len(members)} classes have images of fewer patients than there are splits "
            f"({len(fractions)}). If the folders are patients and not classes, run `movl-monai ingest` with --labels; "
            "else add patients, merge classes, or make fewer splits."
        )
    for label in natural_sorted(members):
        if len(members[label]) < len(fractions):
            counts = ", ".join(f"{name} {len(members[name])}" for name in natural_sorted(members))
            raise DataError(
                f"Class {label!r} has images of {len(members[label])} patient(s), but each of the {len(fractions)} "
                f"splits needs one (patients per class: {counts}); add patients, merge classes, or make fewer splits."
            )
    # the same images in another order must give the same split
    order = sorted(range(len(labels)), key=lambda i: (groups[i], labels[i]))
    class_ids = np.unique([labels[i] for i in order], return_inverse=True)[1]
    group_ids = np.unique([groups[i] for i in order], return_inverse=True)[1]
    share = np.asarray(fractions, dtype=float) / sum(fractions)
    for folds, k in _folds(class_ids, group_ids, share, seed):
        dealt = _deal(folds, class_ids, share, k)
        if dealt is not None:
            parts = np.empty(len(labels), dtype=int)
            parts[order] = dealt[folds]
            return [int(part) for part in parts]
    raise DataError(
        "No division by patient was found that has every class in every split; give the splits in the "
        "column split of a CSV."
    )


def _folds(
    class_ids: np.ndarray, group_ids: np.ndarray, share: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the fold of each image, for fold counts from the best to the worst fit, in several shuffles."""
    from sklearn.model_selection import StratifiedGroupKFold

    largest = min(_MAX_FOLDS, int(np.bincount(class_ids).max()), int(group_ids.max()) + 1)
    counts = range(len(share), max(largest, len(share)) + 1)
    by_fit = sorted(counts, key=lambda k: (round(float(np.abs(_whole_folds(share, k) / k - share).max()), 3), k))
    for attempt, k in itertools.product(range(_ATTEMPTS), by_fit):
        splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed + attempt)
        folds = np.empty(len(class_ids), dtype=int)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")
            for fold, (_, held_out) in enumerate(splitter.split(class_ids, class_ids, group_ids)):
                folds[held_out] = fold
        yield folds, k


def _whole_folds(share: np.ndarray, k: int) -> np.ndarray:
    """Return the number of k folds for each part: at least one, largest remainders first."""
    whole = np.maximum(np.floor(share * k + 1e-9).astype(int), 1)
    while whole.sum() < k:
        whole[np.argmax(share * k - whole)] += 1
    while whole.sum() > k:
        whole[np.argmax(np.where(whole > 1, whole - share * k, -np.inf))] -= 1
    return whole


def _deal(folds: np.ndarray, class_ids: np.ndarray, share: np.ndarray, k: int) -> np.ndarray | None:
    """Return the part of each fold, nearest to the shares in every class; None if some part always lacks a class."""
    per_fold = np.zeros((k, int(class_ids.max()) + 1))
    np.add.at(per_fold, (folds, class_ids), 1)
    totals = per_fold.sum(axis=0)
    best, lowest = None, np.inf
    for dealt in _dealings(_whole_folds(share, k)):
        counts = np.stack([per_fold[dealt == part].sum(axis=0) for part in range(len(share))])
        error = float(np.abs(counts / totals - share[:, None]).sum())
        if (counts > 0).all() and error < lowest - 1e-9:
            best, lowest = dealt, error
    return best


def _dealings(whole: np.ndarray) -> Iterator[np.ndarray]:
    """Yield every assignment of ``whole[part]`` folds to each part."""

    def extend(dealt: list[int], left: list[int]) -> Iterator[list[int]]:
        if not any(left):
            yield dealt
        for part, count in enumerate(left):
            if count:
                yield from extend([*dealt, part], [n - (p == part) for p, n in enumerate(left)])

    for dealt in extend([], whole.tolist()):
        yield np.array(dealt)
