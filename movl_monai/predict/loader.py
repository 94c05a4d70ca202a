"""Units of work of a prediction, and their decoding in worker processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch

from movl_monai.data.decode import Decoded, ItemTransform, decode
from movl_monai.data.workers import map_in_workers

__all__ = ["Decoding", "Unit", "cut", "load_units", "make_units", "paths_of", "plan_decoding"]

Item = Mapping[str, Any]
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Unit:
    """Smallest piece of work that is computed and recorded as a whole: a batch of images, or a volume, or a patient.

    The same list and batch size always give the same units. They depend neither on earlier progress nor on the number
    of processes, because the last digits of a result depend on the other images of its batch.

    Args:
        key: hash of the image ids and of the size and time of each file.
        items: images of the unit, in order.
        is_volume: whether the items are the slices of one volume, or the instances of one series, study or patient.
    """

    key: str
    items: tuple[Item, ...]
    is_volume: bool = False


def make_units(items: Sequence[Item], batch_size: int, *, by_case: bool = False, by_unit: bool = False) -> list[Unit]:
    """Group items into pieces of work.

    Args:
        items: images with ``id``, ``image`` and, in files of several frames, ``frame``; with ``by_case`` also ``case``.
        batch_size: number of images that are computed at once.
        by_case: keep the slices of a volume together.
        by_unit: keep the instances of a series, study or patient together, by their ``unit``.

    Example:
        >>> units = make_units([{"id": name, "image": "none"} for name in "abc"], 2)
        >>> [[item["id"] for item in unit.items] for unit in units]
        [['a', 'b'], ['c']]
    """
    if by_unit:
        return [_unit(list(part), is_volume=True) for _, part in groupby(items, key=lambda item: item["unit"])]
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


@dataclass(frozen=True)
class Decoding:
    """Processes that decode images.

    Args:
        num_workers: number of processes; 0 decodes in this one.
        ahead: decode while the network computes, instead of in turn with it, see
            :func:`movl_monai.data.workers.map_in_workers`.
    """

    num_workers: int = 0
    ahead: bool = True


def plan_decoding(device: torch.device, *, num_workers: int | None = None, processes: int = 1) -> Decoding:
    """Choose the number of decoding processes for a device.

    For a GPU, half of the cores decode. For a CPU, the cores that the network leaves free decode. If the network takes
    all cores, as torch does by default, network and decoding take turns, each with every core: side by side they would
    only wait for each other. Fewer threads for the network (OMP_NUM_THREADS) leave cores for decoding ahead.

    Args:
        device: device of the network.
        num_workers: number of processes that the user asks for; None chooses 1 to 8.
        processes: number of processes with a network on this machine.

    Example:
        >>> plan_decoding(torch.device("cpu"), num_workers=0).num_workers
        0
    """
    cores = max(1, available_cores() // processes)
    free = cores - torch.get_num_threads() if device.type == "cpu" else max(1, cores // 2)
    ahead = free > 0
    if num_workers is None:
        num_workers = min(_MOST_WORKERS, free if ahead else cores)
    return Decoding(num_workers, ahead)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_units(
    units: Sequence[Unit], transform: ItemTransform, *, batch_size: int, decoding: Decoding
) -> Iterator[tuple[Unit, Sequence[Item], list[Decoded], bool]]:
    """Decode the images of units.

    Args:
        units: units from :func:`movl_monai.predict.loader.make_units`.
        transform: preprocessing, see :func:`movl_monai.data.decode.decode`.
        batch_size: largest number of images per batch; a unit is always cut into the same batches.
        decoding: processes that decode. If one dies, only the file that it was decoding is lost.

    Yields:
        a unit, the items and images of one of its batches, and whether it is the unit's last batch. Units come in
        order, and so do their batches.
    """
    sizes = [[len(part) for part in cut(unit.items, batch_size)] for unit in units]
    tasks = ((number, position, dict(item)) for number, unit in enumerate(units) for position, item in _counted(unit))
    died = partial(Decoded, reason="worker_died", detail="the process that decoded the file ended")
    arrived: dict[int, dict[int, Decoded]] = {}
    current, given = 0, 0  # index of the next unit, and number of its batches that were yielded
    # whole batches are sent, so that several are ready while the network computes
    results = map_in_workers(
        _Decode(transform),
        tasks,
        num_workers=decoding.num_workers,
        died=died,
        chunk=batch_size,
        ahead=decoding.ahead,
    )
    for (number, position, _), decoded in results:
        arrived.setdefault(number, {})[position] = decoded
        while current < len(units):
            start = given * batch_size
            positions = range(start, start + sizes[current][given])
            ready = arrived.get(current, {})
            if not all(one in ready for one in positions):
                break
            batch = [ready.pop(one) for one in positions]
            items = units[current].items[start : start + len(positions)]
            given += 1
            is_last = given == len(sizes[current])
            yield units[current], items, batch, is_last
            if is_last:
                arrived.pop(current, None)
                current, given = current + 1, 0


def _counted(unit: Unit) -> Iterator[tuple[int, Item]]:
    return iter(enumerate(unit.items))


@dataclass(frozen=True)
class _Decode:
    """Decode an item in a worker; its position in the unit is passed along."""

    transform: Callable[[dict[str, Any]], Any]

    def __call__(self, task: tuple[int, int, dict[str, Any]]) -> Decoded:
        return decode(task[2], self.transform)
