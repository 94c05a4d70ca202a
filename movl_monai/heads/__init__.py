"""Heads: features (B, num_features) to logits (B, num_classes), or feature maps to logits of every position."""

from .label_mapping import LabelMapping, MappedHead, ZeroShotHead
from .linear import LinearHead
from .ordinal import OrdinalHead
from .query import QueryHead
from .segmentation import FirstMapHead, SegmentationHead

__all__ = [
    "FirstMapHead",
    "LabelMapping",
    "LinearHead",
    "MappedHead",
    "OrdinalHead",
    "QueryHead",
    "SegmentationHead",
    "ZeroShotHead",
]
