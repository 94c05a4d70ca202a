"""Heads: features (B, num_features) to logits (B, num_classes)."""

from .label_mapping import LabelMapping, MappedHead
from .linear import LinearHead
from .zero_shot import ZeroShotHead

__all__ = ["LabelMapping", "LinearHead", "MappedHead", "ZeroShotHead"]
