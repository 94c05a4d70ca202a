"""Peak memory of an action, without a separate process."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import psutil
import torch

from movl_monai.heap import give_back_free_memory

from .clock import synchronize

__all__ = ["peak_memory"]

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
