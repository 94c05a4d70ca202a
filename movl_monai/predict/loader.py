"""Decode batches for the network in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from movl_monai.data.decode import Decoded, ItemTransform, decode
from movl_monai.data.workers import map_in_workers
from movl_monai.predict.batches import Item, Unit, cut

__all__ = ["Decoding", "load_units", "plan_decoding"]

_MOST_WORKERS = 8


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
        units: units from :func:`movl_monai.predict.batches.make_units`.
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
