"""Actions in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.elsewhere import elsewhere

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
