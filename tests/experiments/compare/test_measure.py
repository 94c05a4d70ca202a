from __future__ import annotations

import threading

import pytest
import torch

from movl_monai.experiments.compare import PeakMemory


def test_the_peak_holds_what_was_allocated_and_freed_again() -> None:
    with PeakMemory("cpu", interval=0.001) as idle:
        pass
    with PeakMemory("cpu", interval=0.001) as memory:
        block = torch.ones(20_000_000)  # 80 MB
        threading.Event().wait(0.05)
        del block
    assert memory.peak - idle.peak > 60_000_000


def test_the_sampling_ends_with_the_block_also_after_an_error() -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="inside"), PeakMemory("cpu"):
        raise RuntimeError("inside")
    assert threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
def test_on_cuda_it_is_the_memory_of_tensors_there() -> None:
    with PeakMemory("cuda") as memory:
        torch.ones(1_000_000, device="cuda")
    assert memory.kind == "cuda"
    assert memory.peak >= 4_000_000
