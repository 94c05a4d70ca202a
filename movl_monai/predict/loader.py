"""Decode batches for the network, in worker processes."""

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
    """Where images are decoded.

    Args:
        num_workers: processes; 0 decodes in this one.
        ahead: whether they decode while the network computes, or in turn with it, see
            :func:`movl_monai.data.workers.map_in_workers`.
    """

    num_workers: int = 0
    ahead: bool = True


def plan_decoding(device: torch.device, *, num_workers: int | None = None, processes: int = 1) -> Decoding:
    """Choose what decodes while a network computes on a device.

    Beside a GPU half of the cores decode. On a CPU those do that the network leaves free. Where it takes all of them,
    as torch does by default, network and decoding take turns, each with every core: side by side they would wait for
    each other. Fewer threads for the network (OMP_NUM_THREADS) leave cores for decoding ahead.

    Args:
        device: of the network.
        num_workers: processes that the user wants; None chooses 1 to 8.
        processes: that share this machine, each with a network.

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
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_units(
    units: Sequence[Unit], transform: ItemTransform, *, batch_size: int, decoding: Decoding
) -> Iterator[tuple[Unit, Sequence[Item], list[Decoded], bool]]:
    """Decode the images of units.

    Args:
        units: from :func:`movl_monai.predict.batches.make_units`.
        transform: see :func:`movl_monai.data.decode.decode`.
        batch_size: at most so many images of a unit come at once, always the same ones.
        decoding: where; a process that dies costs the file that killed it.

    Yields:
        a unit, a batch of its items and their images, and whether it is the unit's last batch. Units come in order, and
        so do their batches.
    """
    sizes = [[len(part) for part in cut(unit.items, batch_size)] for unit in units]
    tasks = ((number, position, dict(item)) for number, unit in enumerate(units) for position, item in _counted(unit))
    died = partial(Decoded, reason="worker_died", detail="the process that decoded the file ended")
    arrived: dict[int, dict[int, Decoded]] = {}
    current, given = 0, 0  # the unit that is next, and how many batches of it were given
    # whole batches are sent, so that several lie ready while the network works on one
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
    """What the workers do: decode an item, whose place comes along."""

    transform: Callable[[dict[str, Any]], Any]

    def __call__(self, task: tuple[int, int, dict[str, Any]]) -> Decoded:
        return decode(task[2], self.transform)
