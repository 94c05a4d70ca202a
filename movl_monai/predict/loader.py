"""Decode batches ahead of the network, in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from movl_monai.data.decode import Decoded, ItemTransform, decode
from movl_monai.data.workers import map_in_workers
from movl_monai.predict.batches import Item, Unit, cut

__all__ = ["default_workers", "load_units"]

_MOST_WORKERS = 8


def default_workers() -> int:
    """Half of the processor's cores, as the network needs some itself, from 1 to 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, available // 2))


def load_units(
    units: Sequence[Unit], transform: ItemTransform, *, batch_size: int, num_workers: int
) -> Iterator[tuple[Unit, Sequence[Item], list[Decoded], bool]]:
    """Decode the images of units, while whoever asks for them computes.

    Args:
        units: from :func:`movl_monai.predict.batches.make_units`.
        transform: see :func:`movl_monai.data.decode.decode`.
        batch_size: at most so many images of a unit come at once, always the same ones.
        num_workers: processes; 0 decodes in this one. One that dies costs the file that killed it.

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
    results = map_in_workers(_Decode(transform), tasks, num_workers=num_workers, died=died, chunk=batch_size)
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
