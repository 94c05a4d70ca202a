"""Head of a network whose finest map already holds the logits."""

import torch
from torch import nn

__all__ = ["FirstMapHead"]


class FirstMapHead(nn.Module):
    """Return the first map; there is nothing to learn.

    Args:
        num_classes: number of channels of the map.

    Raises:
        ValueError: if it is below 2.

    Example:
        >>> FirstMapHead(2)([torch.zeros(1, 2, 4, 4)]).shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2 (the background counts), got {num_classes}.")
        self.in_channels = [num_classes]
        self.num_classes = num_classes

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return maps[0], (B, num_classes, H, W)."""
        return maps[0]
