"""Run a function on many tasks in worker processes; a task that kills its process affects no other task."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from movl_monai.heap import give_back_free_memory, keep_free_memory

__all__ = ["map_in_workers"]

_KEPT_MEGABYTES = 64  # by each process

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_workers(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    num_workers: int,
    died: Callable[[], Result],
    chunk: int = 1,
    ahead: bool = True,
) -> Iterator[tuple[Task, Result]]:
    """Apply a function to tasks in worker processes, in order of completion.

    Tasks are taken from their iterable as workers become free, so that millions of them need no memory. When a worker
    dies (a crashing decoder, the memory limit), its unfinished tasks are tried again, each in a separate process. A
    task that kills its process again is given up.

    Args:
        function: sent to the workers once; with the start method "spawn" it must be picklable. Its exceptions end the
            iteration.
        tasks: picklable.
        num_workers: processes; 0 runs everything in this process.
        died: returns the result of a task that was given up.
        chunk: number of tasks that are sent together; more for tasks below a millisecond, as sending takes a fraction
            of one.
        ahead: whether workers continue while the consumer is busy. Otherwise every worker takes one chunk while the
            iteration waits, and rests until all results are consumed: for consumers that need every core, which a
            concurrent worker slows down by more than it gains.

    Yields:
        The task and its result.
    """
    if num_workers == 0:
        for task in tasks:
            yield task, function(task)
        return
    waiting = iter(tasks)
    # taken from the iterable and not yet sent
    taken = list(islice(waiting, chunk))
    while taken:
        suspects, taken = yield from _until_a_worker_dies(function, taken, waiting, num_workers, chunk, ahead)
        for task in suspects:
            yield task, _alone(function, task, died)
        taken = taken or list(islice(waiting, chunk))


def _until_a_worker_dies(
    function: Callable[[Task], Result],
    taken: list[Task],
    waiting: Iterator[Task],
    num_workers: int,
    chunk: int,
    ahead: bool,
) -> Generator[tuple[Task, Result], None, tuple[list[Task], list[Task]]]:
    """Process the waiting tasks; return the tasks in progress when the pool broke, and the tasks not yet sent."""
    running: dict[Future[list[Result]], list[Task]] = {}
    pool = _pool(num_workers, function)
    try:
        while taken or running:
            # few at a time: each may be the cause when a worker dies
            while taken and len(running) < (2 if ahead else 1) * num_workers:
                running[pool.submit(_call, taken)] = taken
                taken = list(islice(waiting, chunk))
            finished, _ = wait(running, return_when=FIRST_COMPLETED if ahead else ALL_COMPLETED)
            if not taken and len(finished) == len(running):
                pool.shutdown(wait=False)  # the processes end while the last results are processed
            for future in finished:
                results = future.result()
                yield from zip(running.pop(future), results, strict=True)
    except BrokenProcessPool:
        return list(chain.from_iterable(running.values())), taken
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [], []


def _alone(function: Callable[[Task], Result], task: Task, died: Callable[[], Result]) -> Result:
    with _pool(1, function) as pool:
        try:
            (result,) = pool.submit(_call, [task]).result()
            return result
        except BrokenProcessPool:
            return died()


def _pool(num_workers: int, function: Callable[[Any], Any]) -> ProcessPoolExecutor:
    give_back_free_memory()
    return ProcessPoolExecutor(num_workers, initializer=_Worker.start, initargs=(function,))


class _Worker:
    """State of a worker process: the function is sent once, not with every task."""

    function: Callable[[Any], Any]

    @classmethod
    def start(cls, function: Callable[[Any], Any]) -> None:
        import torch

        torch.set_num_threads(1)  # one process per core; and OpenMP does not survive a fork
        keep_free_memory(_KEPT_MEGABYTES)
        # the only way to mute the output of decoders in C, which breaks the progress bar and may quote the file
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        cls.function = staticmethod(function)


def _call(tasks: list[Any]) -> list[Any]:
    return [_Worker.function(task) for task in tasks]
