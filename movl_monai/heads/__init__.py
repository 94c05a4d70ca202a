"""Heads: features (B, num_features) to logits (B, num_classes), or feature maps to logits of every position."""

from .label_mapping import LabelMapping, MappedHead, ZeroShotHead
from .linear import LinearHead
from .query import QueryHead
from .segmentation import FirstMapHead, SegmentationHead

__all__ = ["FirstMapHead", "LabelMapping", "LinearHead", "MappedHead", "QueryHead", "SegmentationHead", "ZeroShotHead"]
