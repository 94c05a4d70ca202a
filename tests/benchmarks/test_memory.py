"""Peak memory of a piece of work."""

from __future__ import annotations

import time

import torch

from benchmarks import peak_memory


def test_the_peak_counts_what_was_allocated_and_freed_again() -> None:
    def action() -> None:
        block = torch.ones(25_000_000)  # 100 MB, written
        time.sleep(0.05)
        del block

    assert 90 < peak_memory(action, device=torch.device("cpu")) < 160
