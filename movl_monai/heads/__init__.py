"""Heads: features (B, num_features) to logits (B, num_classes), or feature maps to logits of every position."""

from .label_mapping import LabelMapping, MappedHead, ZeroShotHead
from .linear import LinearHead
from .ordinal import OrdinalHead
from .pooling import AttentionPooling, MaxPooling, MeanPooling, NoisyOrPooling, make_pooling
from .query import QueryHead
from .segmentation import FirstMapHead, SegmentationHead

__all__ = [
    "AttentionPooling",
    "FirstMapHead",
    "LabelMapping",
    "LinearHead",
    "MappedHead",
    "MaxPooling",
    "MeanPooling",
    "NoisyOrPooling",
    "OrdinalHead",
    "QueryHead",
    "SegmentationHead",
    "ZeroShotHead",
    "make_pooling",
]
