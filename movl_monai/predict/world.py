"""Processes that share the work, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

__all__ = ["World", "join_world"]

Value = TypeVar("Value")

_LOCAL = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
_PATIENCE = timedelta(days=7)  # the first process may wait for the slowest one


@dataclass(frozen=True)
class World:
    """This process and the number of others.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on this machine.
        local_size: number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this process lists the images and merges the results."""
        return self.rank == 0

    def share(self, value: Value | None) -> Value:
        """Send the value of the first process to all."""
        if self.size > 1:
            import torch.distributed as dist

            values: list[Any] = [value]
            dist.broadcast_object_list(values, src=0)
            value = values[0]
        return value  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until all processes have arrived."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun there is this process alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    import torch.distributed as dist

    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        rank, size = dist.get_rank(), dist.get_world_size()
        local_rank, local_size = (int(os.environ.get(name, default)) for name, default in _LOCAL.items())
        yield World(rank, size, local_rank, local_size)
    finally:
        if ours:
            dist.destroy_process_group()
