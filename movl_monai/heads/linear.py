"""Linear probe: a linear layer on standardised features."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    r"""Compute logits linearly from standardised features.

    .. math:: \mathrm{LP}(f) = W \, (f - m) / s + b

    with :math:`m` the mean of the training features and :math:`s` one positive scalar; zeros and one until
    :meth:`set_standardization` or :meth:`load_solution` sets them. Both are saved with the checkpoint.

    With one output the head gives a number in the units of the data, :math:`m_y + s_y \, \mathrm{LP}(f)`, with mean and
    deviation of the training numbers from :meth:`set_target`.

    The weight starts at zero by default: the first prediction is uniform for any scale of the features. If only the
    head trains, the problem is convex, so the start affects only the path. The very first step changes only the head,
    as no gradient passes a zero weight to a prompt. The zero start needs no seed.

    Args:
        num_features: number of features of the backbone.
        num_classes: number of logits; 1 for a number.
        init: "zeros", or "uniform" in :math:`\pm 1 / \sqrt{\text{num\_features}}`, as in ``torch.nn.Linear``.
        seed: of the "uniform" start.

    Raises:
        ValueError: if a size is too small or ``init`` is unknown.

    Example:
        >>> head = LinearHead(4, 2)
        >>> head(torch.randn(3, 4)).softmax(dim=1)[0]
        tensor([0.5000, 0.5000], grad_fn=<SelectBackward0>)
    """

    mean: torch.Tensor
    scale: torch.Tensor
    target_mean: torch.Tensor | None
    target_scale: torch.Tensor | None

    def __init__(
        self, num_features: int, num_classes: int, *, init: Literal["zeros", "uniform"] = "zeros", seed: int = 0
    ) -> None:
        super().__init__()
        if num_features < 1 or num_classes < 1:
            raise ValueError(f"A head needs >= 1 feature and >= 1 output, got {num_features} and {num_classes}.")
        if init not in ("zeros", "uniform"):
            raise ValueError(f"init must be 'zeros' or 'uniform', got {init!r}.")
        self.num_features = num_features
        self.num_classes = num_classes
        weight, bias = torch.zeros(num_classes, num_features), torch.zeros(num_classes)
        if init == "uniform":
            generator, bound = torch.Generator().manual_seed(seed), num_features**-0.5
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("target_mean", torch.zeros(()) if num_classes == 1 else None)
        self.register_buffer("target_scale", torch.ones(()) if num_classes == 1 else None)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            features: (B, num_features).

        Returns:
            Logits (B, num_classes), before softmax; of one output the number (B, 1).
        """
        logits = F.linear((features - self.mean) / self.scale, self.weight, self.bias)
        target_mean, target_scale = self.target_mean, self.target_scale
        if target_mean is not None and target_scale is not None:
            logits = target_mean + target_scale * logits
        return logits

    @staticmethod
    def logits(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, num_classes) of standardised features, as an exact probe does for other weights.

        Args:
            features: (B, num_features).
            weight: (num_classes, num_features).
            bias: (num_classes,).
        """
        return F.linear(features, weight, bias)

    @torch.jit.ignore
    @torch.no_grad()
    def set_standardization(self, mean: torch.Tensor, scale: torch.Tensor | float) -> None:
        """Set centre and scale of the features; weight and bias are unchanged, so the logits change.

        Args:
            mean: (num_features,).
            scale: one positive number.

        Raises:
            ValueError: if a shape differs, or ``scale`` is not positive and finite.
        """
        number = float(scale)
        if tuple(mean.shape) != (self.num_features,):
            raise ValueError(f"mean must have shape ({self.num_features},), got {tuple(mean.shape)}.")
        if not 0 < number < float("inf"):
            raise ValueError(
                f"scale must be positive and finite, got {number}; constant features cannot be divided by 0."
            )
        self.mean.copy_(mean)
        self.scale.fill_(number)

    @torch.jit.ignore
    @torch.no_grad()
    def set_target(self, mean: torch.Tensor | float, scale: torch.Tensor | float) -> None:
        """Set mean and deviation of the number, in its units.

        Raises:
            ValueError: for a head with several outputs, or values that are not finite, or a scale that is not positive.
        """
        centre, deviation = float(mean), float(scale)
        if self.target_mean is None or self.target_scale is None:
            raise ValueError(f"This head has {self.num_classes} outputs; one output is for a number.")
        if not (abs(centre) < float("inf") and 0 < deviation < float("inf")):
            raise ValueError(f"mean must be finite and scale positive and finite, got {centre} and {deviation}.")
        self.target_mean.fill_(centre)
        self.target_scale.fill_(deviation)

    @torch.jit.ignore
    @torch.no_grad()
    def load_solution(
        self, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor | float
    ) -> None:
        """Load the solution of a linear probe.

        Args:
            weight: (num_classes, num_features), for standardised features.
            bias: (num_classes,).
            mean: (num_features,).
            scale: one positive number.

        Raises:
            ValueError: if a shape differs, or ``scale`` is not positive and finite.
        """
        if weight.shape != self.weight.shape or bias.shape != self.bias.shape:
            raise ValueError(
                f"expected weight {tuple(self.weight.shape)} and bias {tuple(self.bias.shape)}, "
                f"got {tuple(weight.shape)} and {tuple(bias.shape)}; solve for the same features and classes."
            )
        self.set_standardization(mean, scale)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
