"""The loss of segmentation against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from movl_monai.losses import SegmentationLoss


def _batch(num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, 5, 6, generator=generator)
    return logits, torch.randint(0, num_classes, (2, 5, 6), generator=generator)


def _dice(logits: torch.Tensor, target: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Soft Dice loss of each class over the whole batch."""
    p = logits.softmax(dim=1).transpose(0, 1).flatten(1)[first:]
    y = F.one_hot(target, logits.shape[1]).permute(3, 0, 1, 2).flatten(1)[first:]
    return 1 - (2 * (p * y).sum(dim=1) + 1e-5) / (p.sum(dim=1) + y.sum(dim=1) + 1e-5)


def test_it_is_half_cross_entropy_and_half_dice_over_the_batch() -> None:
    logits, target = _batch()
    expected = 0.5 * F.cross_entropy(logits, target) + 0.5 * _dice(logits, target).mean()
    torch.testing.assert_close(SegmentationLoss()(logits, target), expected)


@pytest.mark.parametrize(("ce", "dice"), [(1.0, 0.0), (0.0, 1.0), (0.2, 0.8)])
def test_the_parts_have_their_weights(ce: float, dice: float) -> None:
    logits, target = _batch()
    expected = ce * F.cross_entropy(logits, target) + dice * _dice(logits, target).mean()
    torch.testing.assert_close(SegmentationLoss(ce_weight=ce, dice_weight=dice)(logits, target), expected)


def test_class_weights_weight_both_parts_with_and_without_the_background() -> None:
    logits, target = _batch()
    weights = torch.tensor([1.0, 2.0, 5.0])
    entropy = F.cross_entropy(logits, target, weight=weights)
    for background, first in ((True, 0), (False, 1)):
        loss = SegmentationLoss(class_weights=weights.tolist(), include_background=background)
        expected = 0.5 * entropy + 0.5 * (weights[first:] * _dice(logits, target, first)).mean()
        torch.testing.assert_close(loss(logits, target), expected)


def test_an_image_without_a_class_leaves_the_dice_of_the_batch_meaningful() -> None:
    logits, target = _batch(2)
    target[0] = 0
    right = 10 * F.one_hot(target, 2).permute(0, 3, 1, 2).float()
    assert SegmentationLoss()(right, target) < 0.01
    assert SegmentationLoss()(logits, target) > 0.3


def test_plain_logits_are_not_read() -> None:
    logits, target = _batch()
    loss = SegmentationLoss()
    assert not loss.needs_plain
    assert torch.equal(loss(logits, target, None), loss(logits, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ce_weight": -1.0}, ">= 0 and not both 0"),
        ({"ce_weight": 0.0, "dice_weight": 0.0}, "not both 0"),
        ({"class_weights": [1.0, 0.0]}, "positive and finite"),
    ],
)
def test_weights_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(**options)
