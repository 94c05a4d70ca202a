"""Run variants in separate processes, so that their memory settings do not affect each other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from .memory import peak_memory

__all__ = ["Action", "Elsewhere", "elsewhere"]

Action = Callable[[], object]


class Elsewhere:
    """Actions in another process; a call adds a fraction of a millisecond to their time.

    Args:
        connection: to the process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def action(self, name: str) -> Action:
        """Return a function that runs an action there and waits for its end."""
        return partial(self._ask, name, memory=False)

    def peak_memory(self, name: str) -> float:
        """Return :func:`benchmarks.memory.peak_memory` of that process."""
        return float(self._ask(name, memory=True))

    def _ask(self, name: str, *, memory: bool) -> Any:
        self._connection.send((name, memory))
        return self._connection.recv()


@contextmanager
def elsewhere(make: Callable[..., Mapping[str, Action]], *arguments: Any, device: torch.device) -> Iterator[Elsewhere]:
    """Start a process with as many threads as this one.

    Args:
        make: function of a module, called there; returns actions by name.
        arguments: of ``make``, picklable.
        device: of the actions.

    Raises:
        EOFError: at the call of an action, if the process has ended with an error, which it prints.
    """
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process that has already computed cannot use several threads
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, arguments, device, torch.get_num_threads()))
    process.start()
    theirs.close()
    try:
        yield Elsewhere(ours)
    finally:
        ours.close()
        process.join()


def _serve(
    connection: Connection,
    make: Callable[..., Mapping[str, Action]],
    arguments: tuple[Any, ...],
    device: torch.device,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    # it should start processes like a program, not in the way it was started itself
    multiprocessing.set_start_method(None, force=True)
    actions = make(*arguments)
    while True:
        try:
            name, memory = connection.recv()
        except EOFError:
            return
        found = peak_memory(actions[name], device=device) if memory else actions[name]()
        connection.send(found if memory else None)
