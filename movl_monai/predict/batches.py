"""Group a list of images into units of work, and units into batches that never change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

__all__ = ["Unit", "cut", "make_units", "paths_of"]

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Unit:
    """Smallest piece of work that is computed and recorded as a whole: a batch of images, or all slices of a volume.

    The same list and batch size always give the same units. They depend neither on earlier progress nor on the number
    of processes, because the last digits of a result depend on the other images of its batch.

    Args:
        key: hash of the image ids and of the size and time of each file.
        items: images of the unit, in order.
        is_volume: whether the items are the slices of one volume.
    """

    key: str
    items: tuple[Item, ...]
    is_volume: bool = False


def make_units(items: Sequence[Item], batch_size: int, *, by_case: bool = False) -> list[Unit]:
    """Group items into units.

    Args:
        items: images with ``id``, ``image`` and, in files of several frames, ``frame``; with ``by_case`` also ``case``.
        batch_size: number of images that are computed at once.
        by_case: keep the slices of a volume together.

    Example:
        >>> units = make_units([{"id": name, "image": "none"} for name in "abc"], 2)
        >>> [[item["id"] for item in unit.items] for unit in units]
        [['a', 'b'], ['c']]
    """
    if not by_case:
        return [_unit(part) for part in cut(items, batch_size)]
    units: list[Unit] = []
    singles: list[Item] = []
    for _, members in groupby(items, key=lambda item: item["case"]):
        group = list(members)
        if group[0]["case"] == group[0]["id"]:
            singles += group
        else:
            units += [_unit(part) for part in cut(singles, batch_size)]
            singles = []
            units.append(_unit(group, is_volume=True))
    return units + [_unit(part) for part in cut(singles, batch_size)]


def cut(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield consecutive parts of ``size`` items; the last part may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _unit(items: Sequence[Item], *, is_volume: bool = False) -> Unit:
    states = [_state(path) for path in dict.fromkeys(path for item in items for path in paths_of(item))]
    text = repr(([item["id"] for item in items], states))
    return Unit(hashlib.sha256(text.encode()).hexdigest()[:24], tuple(items), is_volume)


def paths_of(item: Item) -> list[str]:
    """Return the paths that an item is read from: one file, or the files of a series."""
    image = item["image"]
    return list(image) if isinstance(image, (list, tuple)) else [os.fspath(image)]


def _state(path: str) -> tuple[int, int]:
    """Return the size and modification time of a path; those of a folder change when files are added or removed."""
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1)
    return status.st_size, status.st_mtime_ns
