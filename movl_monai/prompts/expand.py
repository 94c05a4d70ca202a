"""Expand prompt: a learned border around the shrunk image, which covers no pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from movl_monai.prompts.base import Init, Space, VisualPrompt, saturate, starting_values
from movl_monai.prompts.pad import assemble_border, border_strips, check_border

__all__ = ["ExpandPrompt"]


class ExpandPrompt(VisualPrompt):
    """Shrink every image into the interior of a learned border.

    **Not the identity, not even at its start**: a border of w pixels leaves (H - 2 w) x (W - 2 w) for the image, which
    is resized to that (bilinear, antialiased). The border hides nothing, while :class:`PadPrompt` is added onto the
    outer part of the image. The price is resolution, a factor of (H - 2 w) / H: 0.73 for w = 30 at 224. The zero start
    is therefore a shrunk image in a black frame. A linear probe as a warm start should be solved on features of images
    in this form, not of plain images.

    Args:
        image_size: (H, W) or one number for both, in pixels, of input and output.
        width: w, of the border on each side, in pixels, 1 to (min(H, W) - 1) // 2.
        space: "pixel" (clamped to [0, 1]) or "normalized" (added after the backbone's normalisation, not clamped). In
            both the border starts from black.
        init: "zeros" (a black border) or "normal" (noise on black).
        init_std: standard deviation of "normal"; None uses 1 in normalised and 0.25 in pixel space.
        seed: of the random start.
        std: the backbone's ``spec.std``, for ``space="normalized"`` only.
        trainable: False keeps the starting values permanently, as buffers.

    Raises:
        ValueError: if ``width`` leaves no interior.

    Example:
        >>> prompted = ExpandPrompt(image_size=8, width=2)(torch.full((1, 3, 8, 8), 0.5))
        >>> prompted[0, 0, 4].tolist()
        [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0]
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
        self.interior = [self.image_size[0] - 2 * self.width, self.image_size[1] - 2 * self.width]
        generator = torch.Generator().manual_seed(seed)
        for name, shape in border_strips(self.width, self.image_size).items():
            values = starting_values(shape, init=init, init_std=init_std, space=space, generator=generator)
            self.store(name, values, trainable=trainable)

    def parameter_image(self) -> torch.Tensor:
        """Return the border with zeros inside (3, H, W), in the unit of ``space``."""
        return assemble_border(self.top, self.bottom, self.left, self.right)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Shrink and frame a batch of images.

        Args:
            image: (B, 3, H, W), float32 in [0, 1].

        Returns:
            (B, 3, H, W), float32; in [0, 1] for ``space="pixel"``.
        """
        self.check_size(image)
        small = F.interpolate(image, size=self.interior, mode="bilinear", antialias=True)
        framed = F.pad(small, [self.width, self.width, self.width, self.width]) + self.delta()
        return saturate(framed) if self.clamps else framed
