"""Timings: rounds are interleaved and paired, garbage collection is put back."""

from __future__ import annotations

import gc

import pytest
import torch

from benchmarks import Timing, compare, interleave
from benchmarks.clock import quiet_gc

CPU = torch.device("cpu")


def test_actions_take_turns_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    actions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    timings = interleave(actions, rounds=3, warmup=2, device=CPU)
    assert calls == ["a", "b"] * 5
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]


def test_garbage_is_not_collected_inside_and_collected_as_before_outside() -> None:
    seen: list[bool] = []
    interleave({"a": lambda: seen.append(gc.isenabled())}, rounds=1, warmup=0, device=CPU)
    assert seen == [False]
    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="inside"), quiet_gc():
        raise RuntimeError("inside")
    assert gc.isenabled()


def test_the_ratio_is_the_median_of_paired_ratios() -> None:
    # the machine became ten times slower in the last two rounds: ratios stay, medians of each side would be 1 and 20
    ours, other = Timing((1.0, 1.0, 1.0, 10.0, 10.0)), Timing((2.0, 2.0, 20.0, 20.0, 20.0))
    keys = compare("x", ours=ours, other=other, memory=(3.0, 4.0))
    assert keys["x"] == 0.5
    assert (keys["x_rounds"], keys["x_ours_s"], keys["x_other_min_s"], keys["x_other_peak_mb"]) == (5, 1.0, 2.0, 4.0)


def test_repetitions_of_the_other_variant_divide_the_ratio() -> None:
    keys = compare("x", ours=Timing((6.0,)), other=Timing((2.0,)), memory=(0, 0), other_count=30)
    assert keys["x"] == pytest.approx(0.1)
    assert keys["x_ours_spread"] == 0


def test_timings_of_different_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="from the same rounds, got 1 and 2"):
        compare("x", ours=Timing((1.0,)), other=Timing((1.0, 2.0)), memory=(0, 0))
