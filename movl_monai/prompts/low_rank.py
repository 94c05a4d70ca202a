"""Low-rank prompt: a learned image of low rank, added to the image."""

from collections.abc import Sequence

import torch
from torch import nn

from movl_monai.prompts.base import Space, VisualPrompt

__all__ = ["LowRankPrompt"]


class LowRankPrompt(VisualPrompt):
    r"""Add a learned image of rank r per channel to every image.

    .. math:: \delta_c = A_c B_c, \quad A_c \in \mathbb{R}^{H \times r}, \; B_c \in \mathbb{R}^{r \times W}

    A starts at zero and B is drawn from :math:`N(0, 1 / r)`. The product is zero, so the prompt is the identity, but A
    has a gradient as large as a full image's. (With both at zero, neither would ever change.) Rows and columns share 3
    r (H + W) numbers: 5376 for r = 4 at 224.

    Args:
        image_size: (H, W) or one number for both, in pixels.
        rank: r, 1 to min(H, W).
        space: "pixel" (clamped to [0, 1]) or "normalized" (added after the backbone's normalisation, not clamped).
        seed: of B.
        std: the backbone's ``spec.std``, for ``space="normalized"`` only.

    Raises:
        ValueError: if ``rank`` is out of range.

    Reference:
        Jin et al., "LoR-VP: Low-Rank Visual Prompting for Efficient Vision Model Adaptation", ICLR 2025, arXiv
        2502.00896. The scale of B and the addition in pixel space are ours.

    Example:
        >>> prompt = LowRankPrompt(image_size=224, rank=4)
        >>> sum(parameter.numel() for parameter in prompt.parameters())
        5376
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int],
        rank: int = 4,
        space: Space = "pixel",
        seed: int = 0,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(image_size=image_size, space=space, std=std)
        height, width = self.image_size
        if not 1 <= rank <= min(height, width):
            raise ValueError(
                f"rank must be between 1 and {min(height, width)} for {height} x {width} images, got {rank}."
            )
        generator = torch.Generator().manual_seed(seed)
        self.rank = rank
        self.rows = nn.Parameter(torch.zeros(3, height, rank))
        self.columns = nn.Parameter(torch.randn(3, rank, width, generator=generator) * rank**-0.5)

    def parameter_image(self) -> torch.Tensor:
        """Return the product of the factors (3, H, W), in the unit of ``space``."""
        return self.rows @ self.columns
