"""Run a network on batches, halve batches that do not fit into memory, and choose the batch size."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from movl_monai.errors import MovlError
from movl_monai.metrics.checks import check_finite
from movl_monai.predict.model import Model

__all__ = ["Computer", "choose_batch_size"]

_LOGGER = logging.getLogger(__name__)

_MOST_ON_CPU, _MOST_ON_CUDA = 32, 128
_SHARE_OF_MEMORY = 0.25
_BYTES_PER_VALUE = 600  # of activations per pixel; an estimate for models without a module to measure


class Computer:
    """Compute logits and features of batches.

    If a batch does not fit into memory, this batch and all later ones are computed in halves.

    Args:
        model: model to run.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.most: int | None = None

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Compute a batch.

        Args:
            images: uint8 (B, 3, H, W).

        Returns:
            logits (B, C) or (B, C, H, W), float32 on the device; features (B, F), or None.

        Raises:
            MovlError: if not even one image fits into memory.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        while True:
            try:
                logits, features = self._in_parts(images)
                break
            except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.most = self._half(min(self.most or len(images), len(images)))
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
        if not bool(torch.isfinite(logits).all()):
            check_finite(logits.cpu().numpy())
        return logits, features

    def _in_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        parts = [self.model.forward(part) for part in images.split(self.most or len(images))]
        features = [part[1] for part in parts if part[1] is not None]
        logits = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts])
        return logits, np.concatenate(features) if features else None

    def _half(self, size: int) -> int:
        if size <= 1:
            raise MovlError(
                "Not even one image fits into the memory of the device; close other programs, choose another --device, "
                "or a model with smaller images."
            )
        _LOGGER.warning("A batch of %d images does not fit into memory; going on with %d.", size, size // 2)
        return size // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of memory: from CUDA, the CPU allocator, or Python itself."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def choose_batch_size(model: Model, image_size: tuple[int, int]) -> int:
    """Choose the batch size: the largest power of two that fits into a quarter of the free memory.

    It is at most 32 on a CPU and 128 on a GPU. The memory per image is measured with images of zeros. On a CPU without
    a module to measure, it is estimated.

    Args:
        model: model to run.
        image_size: (H, W) after preprocessing, in pixels.
    """
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        return _power_of_two(free * _SHARE_OF_MEMORY / _cuda_bytes(model, image_size), _MOST_ON_CUDA)
    import psutil

    free = psutil.virtual_memory().available
    return _power_of_two(free * _SHARE_OF_MEMORY / _cpu_bytes(model, image_size), _MOST_ON_CPU)


def _power_of_two(most: float, limit: int) -> int:
    size = 1
    while size * 2 <= min(most, limit):
        size *= 2
    return size


def _cuda_bytes(model: Model, image_size: tuple[int, int]) -> float:
    images = torch.zeros(2, 3, *image_size, dtype=torch.uint8)
    model.forward(images)  # its first call allocates workspaces
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    model.forward(images)
    return max(1.0, (torch.cuda.max_memory_allocated(model.device) - before) / len(images))


def _cpu_bytes(model: Model, image_size: tuple[int, int]) -> float:
    """Sum the outputs of all leaf modules for one image, in bytes: an upper bound of the memory held at once."""
    if model.network is None:
        return float(3 * image_size[0] * image_size[1] * _BYTES_PER_VALUE)
    total = 0

    def count(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.element_size() * output.nelement() if isinstance(output, torch.Tensor) else 0

    leaves = [module for module in model.network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        model.forward(torch.zeros(1, 3, *image_size, dtype=torch.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    return float(max(1, total))
