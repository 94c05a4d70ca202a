"""Losses on logits."""

from .movl import MoVLLoss

__all__ = ["MoVLLoss"]
