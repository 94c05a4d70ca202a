"""Visual prompts: modules (B, 3, H, W) -> (B, 3, H, W) before a frozen backbone."""

from .base import VisualPrompt
from .expand import ExpandPrompt
from .full import FullImagePrompt
from .low_rank import LowRankPrompt
from .pad import PadPrompt
from .patch import PatchPrompt
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
