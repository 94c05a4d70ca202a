"""Losses of several findings and of a number, with MoVL's discrepancy; unknown labels are NaN and count for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from .movl import Discrepancy, check_plain, discrepancy_of, positive_weights

__all__ = ["MultilabelLoss", "RegressionLoss"]


class MultilabelLoss(nn.Module):
    r"""Binary cross entropy of every finding, plus MoVL's penalty on the distance from the plain prediction.

    .. math:: L = \frac{1}{|K|} \sum_{(i, k) \in K} \mathrm{BCE}(z_{ik}, y_{ik}) + \frac{\lambda}{BF} \sum_{i, k}
              D(p^+_{ik}, p^-_{ik})

    with :math:`K` the known labels of a batch of B images and F findings. Each finding is a classification with the
    logits :math:`(0, z_k)`: its :math:`D` compares the probabilities :math:`(1 - p, p)` as in
    :class:`~movl_monai.losses.MoVLLoss`, so that ``kl`` is the divergence of two Bernoulli distributions. :math:`D`
    needs no label.

    Args:
        weight: :math:`\lambda` >= 0; 0 leaves the cross entropy, and needs no plain prediction.
        discrepancy: form of :math:`D`.
        class_weights: weight of the positive images of each finding, positive, (F,), as ``pos_weight`` of
            ``torch.nn.BCEWithLogitsLoss``; None for all ones.

    Attributes:
        needs_plain: True if ``forward`` needs ``plain_logits``.

    Raises:
        ValueError: if an option is out of range; in ``forward``, if ``plain_logits`` are needed and missing, or a shape
            differs.

    Reference:
        MoVL, arXiv 2405.07411, figure 1, which is for one class per image; the form for findings is ours.

    Example:
        >>> loss = MultilabelLoss()
        >>> loss(torch.zeros(2, 2), torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
        tensor(0.6931)
    """

    class_weights: torch.Tensor | None

    def __init__(
        self,
        *,
        weight: float = 0.0,
        discrepancy: Discrepancy = "kl",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.discrepancy = float(weight), discrepancy
        self.distance = discrepancy_of(discrepancy, weight)
        self.needs_plain = self.weight > 0
        self.register_buffer("class_weights", positive_weights(class_weights))

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, plain_logits: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch; 0 if no label is known.

        Args:
            logits: prompted, (B, F), before the sigmoid.
            target: 1, 0 or NaN, (B, F).
            plain_logits: of the plain images, (B, F); detached here. Not used while ``weight`` is 0.

        Returns:
            scalar.
        """
        if target.shape != logits.shape:
            raise ValueError(f"target must have the shape of logits {tuple(logits.shape)}, got {tuple(target.shape)}.")
        known = ~target.isnan()
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        # a NaN behind a mask would still give a NaN gradient
        losses = F.binary_cross_entropy_with_logits(
            logits, target.nan_to_num(0.0).to(logits.dtype), pos_weight=weights, reduction="none"
        )
        loss = (losses * known).sum() / known.sum().clamp(min=1)
        if not self.needs_plain:
            return loss
        plain = check_plain(plain_logits, logits, self.weight)
        return loss + self.weight * self.distance(_two_classes(logits), _two_classes(plain))


def _two_classes(logits: torch.Tensor) -> torch.Tensor:
    """Return the logits (B F, 2) of the classification without and with each finding."""
    flat = logits.reshape(-1)
    return torch.stack([torch.zeros_like(flat), flat], dim=1)


class RegressionLoss(nn.Module):
    r"""Mean squared error of standardised numbers, plus the squared distance from the plain prediction.

    .. math:: L = \frac{1}{|K|} \sum_{i \in K} \left( \frac{z_i - y_i}{s} \right)^2 + \frac{\lambda}{B} \sum_i \left(
              \frac{z^+_i - z^-_i}{s} \right)^2

    with :math:`K` the images of a batch of B with a known number, and :math:`s` the deviation of the training numbers.
    The units of the data have no influence on learning rates.

    Args:
        weight: :math:`\lambda` >= 0; 0 needs no plain prediction.
        discrepancy: "mse", the one form.
        scale: :math:`s` > 0, in the units of the numbers.

    Attributes:
        needs_plain: True if ``forward`` needs ``plain_logits``.

    Raises:
        ValueError: if an option is out of range; in ``forward``, if ``plain_logits`` are needed and missing, or a shape
            differs.

    Example:
        >>> loss = RegressionLoss(scale=2.0)
        >>> loss(torch.tensor([[3.0], [9.0]]), torch.tensor([1.0, float("nan")]))
        tensor(1.)
    """

    def __init__(self, *, weight: float = 0.0, discrepancy: Literal["mse"] = "mse", scale: float = 1.0) -> None:
        super().__init__()
        discrepancy_of(discrepancy, weight)
        if discrepancy != "mse":
            raise ValueError(
                f"discrepancy of a regression must be 'mse', got {discrepancy!r}: a number has no classes."
            )
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, got {scale}.")
        self.weight, self.scale = float(weight), float(scale)
        self.needs_plain = self.weight > 0

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, plain_logits: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch; 0 if no number is known.

        Args:
            logits: prompted, (B, 1), in the units of the numbers.
            target: numbers, NaN if unknown, (B,).
            plain_logits: of the plain images, (B, 1); detached here. Not used while ``weight`` is 0.

        Returns:
            scalar.
        """
        if logits.shape != (len(target), 1):
            raise ValueError(
                f"logits must be (B, 1) for B numbers, got {tuple(logits.shape)} and {tuple(target.shape)}."
            )
        known = ~target.isnan()
        errors = (logits[:, 0] - target.nan_to_num(0.0).to(logits.dtype)) / self.scale
        loss = (errors * known).square().sum() / known.sum().clamp(min=1)
        if not self.needs_plain:
            return loss
        plain = check_plain(plain_logits, logits, self.weight)
        return loss + self.weight * ((logits - plain) / self.scale).square().mean()
