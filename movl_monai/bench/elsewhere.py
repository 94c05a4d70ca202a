"""Run variants in processes of their own, where one's settings of the memory do not reach the other."""

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
    """Actions that another process has made; what a call adds to their time is a fraction of a millisecond.

    Args:
        connection: to the process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def action(self, name: str) -> Action:
        """Return a function that runs an action there and waits for its end."""
        return partial(self._ask, name, memory=False)

    def peak_memory(self, name: str) -> float:
        """See :func:`movl_monai.bench.memory.peak_memory`, of that process."""
        return float(self._ask(name, memory=True))

    def _ask(self, name: str, *, memory: bool) -> Any:
        self._connection.send((name, memory))
        return self._connection.recv()


@contextmanager
def elsewhere(make: Callable[..., Mapping[str, Action]], *arguments: Any, device: torch.device) -> Iterator[Elsewhere]:
    """Start a process with as many threads as this one.

    Args:
        make: of a module, called there; gives actions by name.
        arguments: of ``make``, picklable.
        device: where the actions run.

    Raises:
        EOFError: when an action is asked for and the process has ended with an error, which it prints.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process that has computed cannot use several threads
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
    # it is to start processes as a program does, not as it was started itself
    multiprocessing.set_start_method(None, force=True)
    actions = make(*arguments)
    while True:
        try:
            name, memory = connection.recv()
        except EOFError:
            return
        found = peak_memory(actions[name], device=device) if memory else actions[name]()
        connection.send(found if memory else None)
