"""Peak memory of a piece of work, without a process of its own."""

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
_PERIOD = 0.002  # seconds between two looks


def peak_memory(action: Callable[[], object], *, device: torch.device) -> float:
    """Return by how much memory grew at its peak while an action ran.

    On CUDA: the peak of torch's allocator above what was allocated before. On a CPU: the peak of the process's resident
    memory, looked at every 2 ms by a thread, above what was resident before; what the C library had kept of earlier
    work is given back first (glibc only; elsewhere it makes the figure too small). What the action finds there
    (weights, images) is not part of the figure; what it leaves behind is.

    Args:
        action: called once.
        device: where it runs.

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
    """Looks at the resident memory of this process until the block ends."""

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
