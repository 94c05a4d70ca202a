"""Pad prompt: a learned border, added to the image."""

import logging
from collections.abc import Sequence

import torch

from movl_monai.prompts.base import Init, Space, VisualPrompt, starting_values

__all__ = ["PadPrompt"]

_LOGGER = logging.getLogger(__name__)
_LARGEST_SHARE = 0.75


class PadPrompt(VisualPrompt):
    r"""Add a learned border of ``width`` pixels to every image; pixels inside the border never change.

    Only the border is stored, as four strips: :math:`3 (HW - (H - 2w)(W - 2w))` numbers, 69 840 for w = 30 at 224.

    Args:
        image_size: (H, W) or one number for both, in pixels.
        width: w, of the border on each side, in pixels, 1 to (min(H, W) - 1) // 2. About 13 % of the side is a good
        start.
        space: "pixel" (added to the image, clamped to [0, 1]) or "normalized" (added after the backbone's
            normalisation, not clamped).
        init: "zeros" (the identity) or "normal".
        init_std: standard deviation of "normal"; None uses 1 in normalised and 0.25 in pixel space.
        seed: of the random start.
        std: the backbone's ``spec.std``, for ``space="normalized"`` only.
        trainable: False keeps the starting values permanently, as buffers. With ``init="normal"`` this is the control
            arm *random border*: a gain that it also shows is not due to training the prompt.

    Raises:
        ValueError: if ``width`` leaves no interior, or an option is unknown.

    Reference:
        Bahng et al., "Exploring Visual Prompts for Adapting Large-Scale Models", arXiv 2203.17274, "padding" prompt;
        their setting is ``space="normalized", init="normal"``. A border from zeros in pixel space is our reading of the
        prompt in MoVL (arXiv 2405.07411).

    Example:
        >>> prompt = PadPrompt(image_size=224, width=30)
        >>> image = torch.rand(2, 3, 224, 224)
        >>> torch.equal(prompt(image), image)
        True
        >>> sum(parameter.numel() for parameter in prompt.parameters())
        69840
    """

    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def __init__(
        self,
        *,
        image_size: int | Sequence[int],
        width: int = 30,
        space: Space = "pixel",
        init: Init = "zeros",
        init_std: float | None = None,
        seed: int = 0,
        std: Sequence[float] | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(image_size=image_size, space=space, std=std)
        self.width = check_border(width, self.image_size)
        generator = torch.Generator().manual_seed(seed)
        for name, shape in border_strips(self.width, self.image_size).items():
            values = starting_values(shape, init=init, init_std=init_std, space=space, generator=generator)
            self.store(name, values, trainable=trainable)

    def parameter_image(self) -> torch.Tensor:
        """Assemble the four strips around zeros, (3, H, W), in the unit of ``space``."""
        return assemble_border(self.top, self.bottom, self.left, self.right)


def check_border(width: int, image_size: tuple[int, int]) -> int:
    """Return ``width``; log a border that covers most of the image, raise ValueError if it leaves no interior."""
    largest = (min(image_size) - 1) // 2
    if not 1 <= width <= largest:
        raise ValueError(
            f"width must be between 1 and {largest} pixels for {image_size[0]} x {image_size[1]} images, got {width}; "
            "`--prompt_width N` sets it (FullImagePrompt in a config prompts every pixel)."
        )
    covered = 1 - (image_size[0] - 2 * width) * (image_size[1] - 2 * width) / (image_size[0] * image_size[1])
    if covered > _LARGEST_SHARE:
        _LOGGER.warning(
            "A prompt of width %d covers %.0f %% of images of %d x %d; `--prompt_width %d` is the usual share.",
            *(width, 100 * covered, *image_size, max(1, round(0.134 * min(image_size)))),
        )
    return int(width)


def border_strips(width: int, image_size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    """Return the shapes of the four strips of a border; the corners belong to top and bottom."""
    height, full_width = image_size
    across, down = (3, width, full_width), (3, height - 2 * width, width)
    return {"top": across, "bottom": across, "left": down, "right": down}


def assemble_border(top: torch.Tensor, bottom: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Join four strips into an image (3, H, W) that is zero inside."""
    inside = top.new_zeros(3, left.shape[1], top.shape[2] - 2 * left.shape[2])
    return torch.cat([top, torch.cat([left, inside, right], dim=2), bottom], dim=1)
