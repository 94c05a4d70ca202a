"""Full prompt: a learned image of full size, added to the image."""

from collections.abc import Sequence

import torch

from movl_monai.prompts.base import Init, Space, VisualPrompt, starting_values

__all__ = ["FullImagePrompt"]


class FullImagePrompt(VisualPrompt):
    """Add a learned value to every pixel of every image: 3 H W numbers, the maximum for an additive prompt.

    Args:
        image_size: (H, W) or one number for both, in pixels.
        space: "pixel" (clamped to [0, 1]) or "normalized" (added after the backbone's normalisation, not clamped).
        init: "zeros" (the identity) or "normal".
        init_std: standard deviation of "normal"; None uses 1 in normalised and 0.25 in pixel space.
        seed: of the random start.
        std: the backbone's ``spec.std``, for ``space="normalized"`` only.
        trainable: False keeps the starting values permanently, as buffers.

    Example:
        >>> FullImagePrompt(image_size=8)(torch.full((1, 3, 8, 8), 0.5)).unique()
        tensor([0.5000], grad_fn=<Unique2Backward0>)
    """

    values: torch.Tensor

    def __init__(
        self,
        *,
        image_size: int | Sequence[int],
        space: Space = "pixel",
        init: Init = "zeros",
        init_std: float | None = None,
        seed: int = 0,
        std: Sequence[float] | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(image_size=image_size, space=space, std=std)
        generator = torch.Generator().manual_seed(seed)
        shape = (3, *self.image_size)
        values = starting_values(shape, init=init, init_std=init_std, space=space, generator=generator)
        self.store("values", values, trainable=trainable)

    def parameter_image(self) -> torch.Tensor:
        """Return the learned image (3, H, W), in the unit of ``space``."""
        return self.values
