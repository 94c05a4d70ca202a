"""Visual prompts: modules (B, 3, H, W) -> (B, 3, H, W) in front of a frozen backbone."""

from .base import VisualPrompt
from .pad import PadPrompt

__all__ = ["PadPrompt", "VisualPrompt"]
