"""Time and memory of several variants side by side: interleaved rounds, medians, paired ratios, other processes."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch

from movl_monai.heap import give_back_free_memory

__all__ = [
    "Action",
    "Elsewhere",
    "Timing",
    "compare",
    "compare_actions",
    "elsewhere",
    "interleave",
    "peak_memory",
    "quiet_gc",
    "synchronize",
    "timed",
]


@dataclass(frozen=True)
class Timing:
    """Durations of one variant, one per round.

    Args:
        seconds: at least one.

    Example:
        >>> timing = Timing((1.0, 2.0, 3.0))
        >>> timing.median, timing.minimum, timing.spread
        (2.0, 1.0, 0.5)
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Smallest, in seconds."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles over the median; 0 for a single round."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work; on a CPU there is no wait."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(
    action: Callable[[], object], *, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the time of one call in seconds, from an idle to an idle device."""
    synchronize(device)
    start = clock()
    action()
    synchronize(device)
    return clock() - start


@contextmanager
def quiet_gc() -> Iterator[None]:
    """Collect garbage, then disable automatic collection, so that it does not hit one variant by chance."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def interleave(
    actions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time actions in turn (A B A B ...), so that slow moments of the machine affect all of them.

    Args:
        actions: variants by name, run in this order in every round.
        rounds: timed rounds, at least 1.
        warmup: rounds before them that are not counted.
        device: of the actions.
        clock: wall time by default; ``time.process_time`` counts the CPU time of all threads of the process.

    Returns:
        One :class:`Timing` of ``rounds`` durations per name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    with quiet_gc():
        for _ in range(warmup + rounds):
            for name, action in actions.items():
                seconds[name].append(timed(action, device=device, clock=clock))
            gc.collect()
    return {name: Timing(tuple(values[warmup:])) for name, values in seconds.items()}


def compare_actions(
    name: str,
    *,
    ours: Callable[[], object],
    other: Callable[[], object],
    rounds: int,
    warmup: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    other_count: float = 1.0,
) -> dict[str, float]:
    """Time two variants in turn, measure the memory of one call of each, and :func:`compare` them."""
    actions = {"ours": ours, "other": other}
    timings = interleave(actions, rounds=rounds, warmup=warmup, device=device, clock=clock)
    memory = [peak_memory(action, device=device) for action in actions.values()]
    return compare(name, ours=timings["ours"], other=timings["other"], memory=memory, other_count=other_count)


def compare(
    name: str, *, ours: Timing, other: Timing, memory: Sequence[float], other_count: float = 1.0
) -> dict[str, float]:
    """Return a comparison as flat keys.

    Args:
        name: key of the ratio, and prefix of the other keys.
        ours: our durations.
        other: the other variant's durations, of the same rounds.
        memory: peak memory of ours and of the other variant, in MB.
        other_count: number of runs of the other variant that are equivalent to one of ours.

    Returns:
        ``name``: the median over rounds of the ratio of ours to (``other_count`` times) other, paired because both run
            in the same minute. ``name_rounds``, and for ours and other: median, minimum, spread and memory.

    Example:
        >>> keys = compare("a_vs_b", ours=Timing((1.0, 3.0)), other=Timing((2.0, 6.0)), memory=(1.0, 2.0))
        >>> keys["a_vs_b"], keys["a_vs_b_other_s"]
        (0.5, 4.0)
    """
    if len(ours.seconds) != len(other.seconds):
        raise ValueError(
            f"{name}: ours and other must come from the same rounds, got {len(ours.seconds)} and {len(other.seconds)}."
        )
    pairs = zip(ours.seconds, other.seconds, strict=True)
    keys = {name: statistics.median(one / (two * other_count) for one, two in pairs)}
    keys[f"{name}_rounds"] = len(ours.seconds)
    for who, timing, peak in zip(("ours", "other"), (ours, other), memory, strict=True):
        keys[f"{name}_{who}_s"] = timing.median
        keys[f"{name}_{who}_min_s"] = timing.minimum
        keys[f"{name}_{who}_spread"] = timing.spread
        keys[f"{name}_{who}_peak_mb"] = peak
    return keys


_MB = 1e6
_PERIOD = 0.002  # seconds between two samples


def peak_memory(action: Callable[[], object], *, device: torch.device) -> float:
    """Return the growth of memory at its peak during an action.

    On CUDA: the peak of torch's allocator above the previous allocation. On a CPU: the peak of the process's resident
    memory, sampled every 2 ms by a thread, above the previous resident memory. Memory that the C library keeps from
    earlier work is returned first (only with glibc; elsewhere the figure is too small). The figure excludes existing
    objects (weights, images) and includes the remaining results of the action.

    Args:
        action: called once.
        device: of the action.

    Returns:
        MB (10^6 bytes), >= 0.
    """
    gc.collect()
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        synchronize(device)
        return max(0, torch.cuda.max_memory_allocated(device) - before) / _MB
    give_back_free_memory()
    with _Watch() as watch:
        action()
    return max(0, watch.peak - watch.before) / _MB


class _Watch:
    """Sample the resident memory of this process until the block ends."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.before = self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self.before = self.peak = self.process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self.process.memory_info().rss)

    def _look(self) -> None:
        while not self._stop.wait(_PERIOD):
            self.peak = max(self.peak, self.process.memory_info().rss)


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
