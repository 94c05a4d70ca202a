"""Timings: rounds are interleaved and paired, garbage collection is put back."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import Timing, compare, interleave, peak_memory
from benchmarks.clock import elsewhere, quiet_gc

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


def test_the_peak_counts_what_was_allocated_and_freed_again() -> None:
    def action() -> None:
        block = torch.ones(25_000_000)  # 100 MB, written
        time.sleep(0.05)
        del block

    assert 90 < peak_memory(action, device=torch.device("cpu")) < 160


CPU = torch.device("cpu")


def actions(folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "facts": partial(_write, folder / "facts"),
        "memory": partial(torch.ones, 50_000_000),
        "fail": partial(int, "no number"),
    }


def _write(path: Path) -> None:
    path.write_text(f"{os.getpid()} {torch.get_num_threads()} {multiprocessing.get_start_method()}")


def test_actions_run_there_with_as_many_threads_and_an_error_ends_it(tmp_path: Path) -> None:
    with elsewhere(actions, tmp_path, device=CPU) as process:
        process.action("facts")()
        pid, threads, start_method = (tmp_path / "facts").read_text().split()
        assert int(pid) != os.getpid()
        assert int(threads) == torch.get_num_threads()
        assert start_method == multiprocessing.get_all_start_methods()[0]  # the default, which a program has
        assert 190 < process.peak_memory("memory") < 300
        with pytest.raises(EOFError):
            process.action("fail")()
