"""Visual prompts: modules (B, 3, H, W) -> (B, 3, H, W) before a frozen backbone."""

from .base import VisualPrompt
from .forms import ExpandPrompt, FullImagePrompt, LowRankPrompt, PadPrompt, PatchPrompt
from .picture import difference_picture, prompt_picture, write_picture

__all__ = [
    "ExpandPrompt",
    "FullImagePrompt",
    "LowRankPrompt",
    "PadPrompt",
    "PatchPrompt",
    "VisualPrompt",
    "difference_picture",
    "prompt_picture",
    "write_picture",
]
