"""Loss of segmentation: MONAI's cross entropy and Dice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceCELoss
from torch import nn

__all__ = ["SegmentationLoss"]


class SegmentationLoss(nn.Module):
    r"""Weighted sum of cross entropy and soft Dice loss.

    .. math:: L = w_{ce} \, \mathrm{CE}(s, y) + w_{dice} \, \Bigl(1 - \tfrac{1}{C} \sum_c
              \frac{2 \sum p_c y_c + \epsilon}{\sum p_c + \sum y_c + \epsilon}\Bigr), \quad p = \mathrm{softmax}(s)

    with sums over the pixels of the whole batch. Over single images, MONAI's default, the Dice loss of a class that an
    image lacks is near 1 for any prediction, without a useful gradient; many slices of a volume are such images. If
    several processes train together, each sums over its own batch.

    Args:
        ce_weight: :math:`w_{ce}` >= 0.
        dice_weight: :math:`w_{dice}` >= 0; not both are 0.
        class_weights: weight of every class in both parts, positive, (C,); None for all ones.
        include_background: whether the Dice part counts the background (class 0).

    Attributes:
        needs_plain: False; for the trainer.

    Raises:
        ValueError: if a weight is out of range.

    Reference:
        DVPT, arXiv 2307.09787: 0.5 CE + 0.5 Dice (released code). ``monai.losses.DiceCELoss``.

    Example:
        >>> logits, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
        >>> SegmentationLoss(ce_weight=1.0, dice_weight=0.0)(logits, target)
        tensor(0.6931)
    """

    needs_plain = False

    def __init__(
        self,
        *,
        ce_weight: float = 0.5,
        dice_weight: float = 0.5,
        class_weights: Sequence[float] | None = None,
        include_background: bool = True,
    ) -> None:
        super().__init__()
        if min(ce_weight, dice_weight) < 0 or ce_weight + dice_weight <= 0:
            raise ValueError(f"ce_weight and dice_weight must be >= 0 and not both 0, got {ce_weight}, {dice_weight}.")
        values = None if class_weights is None else torch.tensor([float(value) for value in class_weights])
        if values is not None and not bool(((values > 0) & values.isfinite()).all()):
            raise ValueError(
                f"class_weights must be positive and finite, one per class, got {list(class_weights or [])}."
            )
        self.loss = DiceCELoss(
            include_background=include_background,
            to_onehot_y=True,
            softmax=True,
            batch=True,
            weight=values,
            lambda_ce=ce_weight,
            lambda_dice=dice_weight,
        )

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, plain_logits: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (B, C, H, W), before softmax.
            target: classes (B, H, W), integers in 0 .. C - 1.
            plain_logits: not used.

        Returns:
            scalar.
        """
        return self.loss(logits, target[:, None])
