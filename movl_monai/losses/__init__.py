"""Losses on logits."""

from .movl import MoVLLoss
from .segmentation import SegmentationLoss

__all__ = ["MoVLLoss", "SegmentationLoss"]
