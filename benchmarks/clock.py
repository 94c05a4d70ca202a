"""Timing of several variants side by side: interleaved rounds, medians, paired ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

__all__ = ["Timing", "compare", "interleave", "quiet_gc", "synchronize", "timed"]


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
