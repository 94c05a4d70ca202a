"""The losses of findings and numbers against the formulas without missing labels."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F

from movl_monai.losses import MoVLLoss, MultilabelLoss, RegressionLoss
from movl_monai.losses.movl import Discrepancy

NAN = float("nan")


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, plain = (2 * torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return logits.requires_grad_(), plain, (torch.rand(6, 3, generator=generator) > 0.5).double()


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
def test_complete_findings_have_torchs_binary_cross_entropy(weights: list[float] | None) -> None:
    logits, _, target = batch()
    expected = F.binary_cross_entropy_with_logits(
        logits, target, pos_weight=None if weights is None else torch.tensor(weights)
    )
    torch.testing.assert_close(MultilabelLoss(class_weights=weights)(logits, target), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", get_args(Discrepancy))
def test_the_discrepancy_is_that_of_one_classification_per_finding(name: Any) -> None:
    logits, plain, target = batch()
    loss = MultilabelLoss(weight=0.7, discrepancy=name)(logits, target, plain)

    def alone(k: int) -> torch.Tensor:
        pairs = [torch.stack([torch.zeros(6).double(), part[:, k]], dim=1) for part in (logits, plain)]
        return MoVLLoss(weight=0.7, discrepancy=name)(pairs[0], target[:, k].long(), pairs[1])

    torch.testing.assert_close(loss, torch.stack([alone(k) for k in range(3)]).mean(), atol=1e-12, rtol=0)


def test_unknown_findings_have_no_influence() -> None:
    logits, _, target = batch()
    target[0, 1] = target[2] = NAN
    loss = MultilabelLoss(class_weights=[1.0, 2.0, 3.0])(logits, target)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, target.isnan())
    known = ~target.isnan()
    table = F.binary_cross_entropy_with_logits(
        logits, target, pos_weight=torch.tensor([1.0, 2.0, 3.0]), reduction="none"
    )
    torch.testing.assert_close(loss, table[known].mean())
    assert MultilabelLoss()(logits, torch.full_like(target, NAN)) == 0


def test_the_error_of_numbers_is_in_deviations() -> None:
    logits, plain = torch.tensor([[5.0], [1.0], [9.0]], requires_grad=True), torch.tensor([[1.0], [1.0], [9.0]])
    loss = RegressionLoss(weight=0.5, scale=2.0)(logits, torch.tensor([1.0, NAN, 9.0]), plain)
    assert loss.item() == pytest.approx((2**2 + 0) / 2 + 0.5 * 2**2 / 3)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1] == 0
    assert RegressionLoss()(logits, torch.full((3,), NAN)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultilabelLoss(weight=-1), "finite and >= 0"),
        (lambda: MultilabelLoss(class_weights=[0.0]), "positive and finite"),
        (lambda: MultilabelLoss()(torch.zeros(2, 3), torch.zeros(2)), "target must have the shape"),
        (lambda: MultilabelLoss(weight=1)(torch.zeros(2, 3), torch.zeros(2, 3)), "pass plain_logits"),
        (lambda: RegressionLoss(discrepancy="kl"), "must be 'mse'"),  # type: ignore[arg-type]
        (lambda: RegressionLoss(scale=0), "scale must be positive"),
        (lambda: RegressionLoss()(torch.zeros(2, 2), torch.zeros(2)), r"\(B, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
