"""Visual prompts by form: an image, a patch or a border that is added, or a border around the shrunk image."""

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.prompts.base import Init, Space, VisualPrompt, saturate, starting_values

__all__ = ["ExpandPrompt", "FullImagePrompt", "LowRankPrompt", "PadPrompt", "PatchPrompt"]

_LOGGER = logging.getLogger(__name__)
_LARGEST_SHARE = 0.75


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
