"""Conversion of a collated batch to the network's input."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["prepare_image_batch"]


def prepare_image_batch(
    batchdata: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Move a batch to the device and convert its images to float32 in [0, 1] there.

    Images stay uint8 until then: a quarter of the memory and of the transfer, and lossless, since preprocessing chains
    end on the k/255 grid.

    Args:
        batchdata: ``image`` (B, 3, H, W), uint8 or float32 in [0, 1]; optionally ``mask`` (B, H, W) or ``label`` (B,),
            integers.
        device: destination.
        non_blocking: copy asynchronously from pinned memory.
        kwargs: further arguments of :meth:`torch.Tensor.to`, e.g. ``memory_format``.

    Returns:
        Image (B, 3, H, W) float32 in [0, 1], and its target, int64: the mask (B, H, W) if there is one, else the label
        (B,), else None.

    Example:
        >>> image, label = prepare_image_batch({"image": torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)})
        >>> image.max().item(), label
        (1.0, None)
    """
    image = batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    if image.dtype == torch.uint8:
        image = image.to(torch.float32).div_(255)
    label = batchdata.get("mask", batchdata.get("label"))
    if label is not None:
        label = torch.as_tensor(label).to(device=device, dtype=torch.int64, non_blocking=non_blocking)
    return image, label
