"""Base of the visual prompts: the image contract, the space of addition, seeded starting values."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.autograd.function import once_differentiable

__all__ = ["Init", "Space", "VisualPrompt", "saturate", "starting_values"]

Space = Literal["pixel", "normalized"]
Init = Literal["zeros", "normal"]
# N(0, 1) in normalised space is about N(0, 0.25) in pixel space: the std of natural images per channel is near 0.25
_DEFAULT_STD = {"pixel": 0.25, "normalized": 1.0}


def saturate(image: torch.Tensor) -> torch.Tensor:
    r"""Clamp to [0, 1]; the gradient is stopped only if a descent step would lead further out.

    .. math:: y = \min(\max(x, 0), 1) \qquad
        \frac{\partial L}{\partial x} = \begin{cases} 0 & x \le 0, \; \partial L / \partial y > 0 \\
        0 & x \ge 1, \; \partial L / \partial y < 0 \\ \partial L / \partial y & \text{else} \end{cases}

    ``torch.clamp`` stops it everywhere outside, and in some versions of torch (2.14) also at the bounds. Medical images
    are exactly black around the body or the collimated field, where a prompt that starts at zero would never change.

    Args:
        image: any shape, floating point.

    Returns:
        The same shape and dtype, in [0, 1].

    Reference:
        The gradient is that of projected gradient descent on a box; outside the box it is our choice.

    Example:
        >>> x = torch.tensor([-0.5, 0.0, 0.5, 1.5], requires_grad=True)
        >>> (-saturate(x).sum()).backward()  # brighter is better
        >>> x.grad
        tensor([-1., -1., -1.,  0.])
    """
    if torch.jit.is_scripting():
        return image.clamp(0.0, 1.0)
    # exported graphs have no gradient and cannot hold a Python function
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or not image.requires_grad:
        return image.clamp(0.0, 1.0)
    return _Saturate.apply(image)


class _Saturate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: torch.Tensor) -> torch.Tensor:
        clamped = image.clamp(0.0, 1.0)
        # the output is kept anyway, as the backbone's input; the sum before the clamp would need more memory
        ctx.save_for_backward(clamped)
        return clamped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (clamped,) = ctx.saved_tensors
        # torch.where over two comparisons is equivalent, at twice the time on a CPU
        darker = torch.ops.aten.threshold_backward(gradient.clamp(min=0.0), clamped, 0.0)
        brighter = torch.ops.aten.threshold_backward(gradient.clamp(max=0.0), 1.0 - clamped, 0.0)
        return darker.add_(brighter)


class VisualPrompt(nn.Module):
    r"""Add a learned image to every image of a batch, before the backbone.

    .. math:: \mathrm{VP}(x) = \mathrm{clamp}(x + \delta, 0, 1) \quad \text{or} \quad \mathrm{VP}(x) = x + s \, \delta

    the first for ``space="pixel"``; the second for ``space="normalized"``, where :math:`s` is the backbone's ``std``
    per channel. Adding :math:`\delta` after the normalisation :math:`(x - m) / s` equals adding :math:`s\,\delta`
    before it (the mean cancels), so the prompt stays before the backbone in both cases. Without the clamp the output
    may leave [0, 1].

    A subclass implements :meth:`parameter_image`. All of it scripts with ``torch.jit.script``.

    Args:
        image_size: (H, W) or one number for both, in pixels, of every image.
        space: space of the addition, "pixel" or "normalized".
        std: standard deviation per channel of the backbone's normalisation, for ``space="normalized"`` only.

    The clamp's gradient is defined in :func:`~movl_monai.prompts.base.saturate`: exactly black or white pixels, of
    which medical images have many, still learn.

    Raises:
        ValueError: if ``image_size`` is not positive, or ``std`` is missing or superfluous; in ``forward``, for an
            image of another size.
    """

    image_size: tuple[int, int]
    std: torch.Tensor

    def __init__(
        self, *, image_size: int | Sequence[int], space: Space = "pixel", std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.image_size = _pair(image_size)
        if space not in _DEFAULT_STD:
            raise ValueError(f"space must be 'pixel' or 'normalized', got {space!r}.")
        if (space == "normalized") != (std is not None):
            raise ValueError(
                f"std (one number per channel, the backbone's spec.std) belongs to space='normalized' only, "
                f"got space={space!r} with std={std}."
            )
        self.clamps = space == "pixel"
        channels = torch.tensor([1.0, 1.0, 1.0] if std is None else [float(value) for value in std])
        if channels.shape != (3,) or not bool((channels > 0).all()):
            raise ValueError(f"std must hold 3 positive numbers, one per channel, got {std}.")
        # not persistent: it belongs to the backbone and is not learned
        self.register_buffer("std", channels.reshape(3, 1, 1), persistent=False)

    def parameter_image(self) -> torch.Tensor:
        """Assemble the learned values into an image (3, H, W), zero elsewhere, in the unit of ``space``."""
        raise NotImplementedError

    def delta(self) -> torch.Tensor:
        """Return the addition to an image, (3, H, W), float32, in pixel units for both spaces."""
        return self.parameter_image() * self.std

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Prompt a batch of images.

        Args:
            image: (B, 3, H, W), float32 in [0, 1].

        Returns:
            (B, 3, H, W), float32; in [0, 1] for ``space="pixel"``.
        """
        self.check_size(image)
        prompted = image + self.delta()
        return saturate(prompted) if self.clamps else prompted

    def check_size(self, image: torch.Tensor) -> None:
        """Raise ValueError unless ``image`` is (B, 3, H, W) of this prompt's size."""
        height, width = self.image_size
        if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] != height or image.shape[3] != width:
            raise ValueError(
                f"This prompt is for images of shape (B, 3, {height}, {width}), got {image.shape}; "
                "resize the images, or give the prompt their image_size."
            )

    def store(self, name: str, values: torch.Tensor, *, trainable: bool) -> None:
        """Register learned values; as a buffer if not trainable, so that no training stage can change them."""
        if trainable:
            self.register_parameter(name, nn.Parameter(values))
        else:
            self.register_buffer(name, values)


def starting_values(
    shape: Sequence[int], *, init: Init, init_std: float | None, space: Space, generator: torch.Generator
) -> torch.Tensor:
    """Draw the starting values of a prompt.

    Args:
        shape: of the result.
        init: "zeros" (the identity) or "normal".
        init_std: standard deviation for "normal", > 0, in the unit of ``space``. None uses 1 for "normalized", as in
            Bahng et al., and 0.25 for "pixel", which is about as strong.
        space: see :class:`VisualPrompt`.
        generator: the seeded random generator.

    Returns:
        float32 tensor of the shape.

    Raises:
        ValueError: if ``init`` is unknown or ``init_std`` is not positive.
    """
    if init == "zeros":
        return torch.zeros(list(shape))
    if init != "normal":
        raise ValueError(f"init must be 'zeros' or 'normal', got {init!r}.")
    deviation = _DEFAULT_STD[space] if init_std is None else float(init_std)
    if not deviation > 0:
        raise ValueError(f"init_std must be > 0, got {init_std}; for a start at the identity use init='zeros'.")
    return torch.randn(list(shape), generator=generator) * deviation


def _pair(image_size: int | Sequence[int]) -> tuple[int, int]:
    sizes = [image_size, image_size] if isinstance(image_size, int) else [int(size) for size in image_size]
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"image_size must be one positive number or (height, width) in pixels, got {image_size}.")
    return sizes[0], sizes[1]
