"""Patch prompt: a learned patch at a fixed position, added to the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from movl_monai.prompts.base import Init, Space, VisualPrompt, starting_values

__all__ = ["PatchPrompt"]


class PatchPrompt(VisualPrompt):
    """Add a learned rectangle to every image, always at the same position.

    Args:
        image_size: (H, W) or one number for both, in pixels.
        size: (height, width) of the patch or one number for both, in pixels.
        position: (row, column) of the patch's top left pixel, both >= 0.
        space: "pixel" (clamped to [0, 1]) or "normalized" (added after the backbone's normalisation, not clamped).
        init: "zeros" (the identity) or "normal".
        init_std: standard deviation of "normal"; None uses 1 in normalised and 0.25 in pixel space.
        seed: of the random start.
        std: the backbone's ``spec.std``, for ``space="normalized"`` only.
        trainable: False keeps the starting values permanently, as buffers.

    Raises:
        ValueError: if the patch is not inside the image.

    Reference:
        Bahng et al., arXiv 2203.17274, "fixed patch" prompt.

    Example:
        >>> prompt = PatchPrompt(image_size=8, size=2, position=(1, 5), init="normal")
        >>> prompt.delta().abs().sum(dim=0).nonzero().tolist()
        [[1, 5], [1, 6], [2, 5], [2, 6]]
    """

    values: torch.Tensor

    def __init__(
        self,
        *,
        image_size: int | Sequence[int],
        size: int | Sequence[int],
        position: Sequence[int] = (0, 0),
        space: Space = "pixel",
        init: Init = "zeros",
        init_std: float | None = None,
        seed: int = 0,
        std: Sequence[float] | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(image_size=image_size, space=space, std=std)
        height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        row, column = int(position[0]), int(position[1])
        below, right = self.image_size[0] - row - height, self.image_size[1] - column - width
        if min(height, width) < 1 or min(row, column, below, right) < 0:
            raise ValueError(
                f"The patch of {height} x {width} pixels at row {row}, column {column} is not inside an image of "
                f"{self.image_size[0]} x {self.image_size[1]}; choose a smaller size or another position."
            )
        self.position = (row, column)
        self.padding = [column, right, row, below]
        generator = torch.Generator().manual_seed(seed)
        shape = (3, height, width)
        values = starting_values(shape, init=init, init_std=init_std, space=space, generator=generator)
        self.store("values", values, trainable=trainable)

    def parameter_image(self) -> torch.Tensor:
        """Return the patch with zeros around it (3, H, W), in the unit of ``space``."""
        return F.pad(self.values, self.padding)
