"""Pictures of learned prompts."""

from __future__ import annotations

from os import PathLike

import numpy as np
import torch
from PIL import Image

from movl_monai.prompts.base import VisualPrompt

__all__ = ["difference_picture", "prompt_picture", "write_picture"]


def prompt_picture(prompt: VisualPrompt) -> np.ndarray:
    r"""Draw the addition of a prompt, amplified to the full range.

    .. math:: 0.5 + \delta / (2 \max |\delta|)

    Mid-grey (128) is zero, brighter is positive, darker is negative. The amplification differs between prompts; the
    strength is ``prompt.delta().abs().max()``.

    Args:
        prompt: any visual prompt.

    Returns:
        uint8 (H, W, 3), mid-grey everywhere for a prompt of zeros.

    Example:
        >>> from movl_monai.prompts import PadPrompt
        >>> prompt_picture(PadPrompt(image_size=8, width=2)).min()
        np.uint8(128)
    """
    with torch.no_grad():
        delta = prompt.delta()
    strength = delta.abs().max()
    return _signed_picture(delta / strength.clamp(min=torch.finfo(delta.dtype).tiny))


def difference_picture(prompt: VisualPrompt, image: torch.Tensor, *, gain: float = 1.0) -> np.ndarray:
    """Draw the change of one image by a prompt, including clamping and resizing.

    Args:
        prompt: any visual prompt.
        image: (3, H, W), float32 in [0, 1].
        gain: > 0; the differences -1 / gain and 1 / gain become black and white, zero is mid-grey (128).

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if ``gain`` is not positive, or the image has another size than the prompt.
    """
    if not gain > 0:
        raise ValueError(f"gain must be > 0, got {gain}.")
    with torch.no_grad():
        change = prompt(image[None])[0] - image
    return _signed_picture(change * gain)


def write_picture(path: str | PathLike[str], picture: np.ndarray) -> None:
    """Write a picture, uint8 (H, W, 3), as PNG."""
    Image.fromarray(picture).save(path, format="PNG")


def _signed_picture(values: torch.Tensor) -> np.ndarray:
    """Map (3, H, W) in [-1, 1] to uint8 (H, W, 3) with zero at 128."""
    # 127.5 rounds to the even 128; numpy and torch agree on that
    grey = (127.5 + 127.5 * values.clamp(-1, 1)).round().clamp(0, 255)
    return grey.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
