"""Heads: features (B, num_features) to logits (B, num_classes)."""

from .linear import LinearHead

__all__ = ["LinearHead"]
