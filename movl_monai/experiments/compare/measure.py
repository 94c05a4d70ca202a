"""Peak memory of a piece of work."""

from __future__ import annotations

import gc
import threading
from typing import Any

import torch

from movl_monai.heap import give_back_free_memory

__all__ = ["PeakMemory"]


class PeakMemory:
    """Measure the largest memory in use while the ``with`` block runs.

    On CUDA it is the memory of tensors (``torch.cuda.max_memory_allocated``). Elsewhere it is the resident memory of
    the whole process, sampled by a thread: it includes the libraries and the shared images, which are the same for all
    arms. Free memory of earlier work is first returned to the system, if the C library supports it.

    Args:
        device: of the work.
        interval: seconds between samples.

    Attributes:
        peak: bytes, after the block.
        kind: "cuda" or "process".

    Example:
        >>> with PeakMemory("cpu") as memory:
        ...     block = torch.ones(1000)
        >>> memory.kind, memory.peak > 0
        ('process', True)
    """

    def __init__(self, device: str | torch.device = "cpu", *, interval: float = 0.02) -> None:
        self.device = torch.device(device)
        self.kind = "cuda" if self.device.type == "cuda" else "process"
        self.interval = interval
        self.peak = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.kind == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        give_back_free_memory()
        self._stop.clear()
        self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.kind == "cuda":
            self.peak = int(torch.cuda.max_memory_allocated(self.device))
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self._sample()

    def _sample(self) -> None:
        import psutil

        self.peak = max(self.peak, int(psutil.Process().memory_info().rss))
