"""Losses on logits."""

from .movl import MoVLLoss
from .segmentation import SegmentationLoss
from .targets import MultilabelLoss, RegressionLoss

__all__ = ["MoVLLoss", "MultilabelLoss", "RegressionLoss", "SegmentationLoss"]
