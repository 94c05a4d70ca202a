"""Heads: features (B, num_features) to logits (B, num_classes), or feature maps to logits of every position."""

from .label_mapping import LabelMapping, MappedHead
from .linear import LinearHead
from .query import QueryHead
from .segmentation import FirstMapHead, SegmentationHead
from .zero_shot import ZeroShotHead

__all__ = ["FirstMapHead", "LabelMapping", "LinearHead", "MappedHead", "QueryHead", "SegmentationHead", "ZeroShotHead"]
