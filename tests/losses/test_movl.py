"""MoVLLoss against explicit loops in float64."""

from __future__ import annotations

import math

import pytest
import torch

from movl_monai.losses import MoVLLoss

LOGITS = [[0.3, -1.2, 2.0], [1.5, 0.1, -0.7], [0.0, 0.0, 4.0], [-2.0, 1.0, 0.5]]
PLAIN = [[0.1, -0.9, 1.0], [-0.5, 0.3, 0.7], [0.2, 0.1, 3.0], [2.0, -1.0, 0.5]]
TARGET = [2, 0, 1, 1]


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def cross_entropy(class_weights: list[float], smoothing: float) -> float:
    total, weights = 0.0, 0.0
    for row, label in zip(LOGITS, TARGET, strict=True):
        logs = [math.log(p) for p in softmax(row)]
        total -= (1 - smoothing) * class_weights[label] * logs[label]
        total -= sum(smoothing / 3 * weight * value for weight, value in zip(class_weights, logs, strict=True))
        weights += class_weights[label]
    return total / weights


def discrepancy(kind: str) -> float:
    values = []
    for prompted_row, plain_row in zip(LOGITS, PLAIN, strict=True):
        pairs = list(zip(softmax(prompted_row), softmax(plain_row), strict=True))
        norms = math.sqrt(sum(p * p for p, _ in pairs)) * math.sqrt(sum(q * q for _, q in pairs))
        values.append(
            {
                "kl": sum(q * math.log(q / p) for p, q in pairs),
                "mse": sum((p - q) ** 2 for p, q in pairs),
                "l1": sum(abs(p - q) for p, q in pairs),
                "cosine": 1 - sum(p * q for p, q in pairs) / norms,
            }[kind]
        )
    return sum(values) / len(values)


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(TARGET), torch.tensor(PLAIN, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["kl", "mse", "l1", "cosine"])
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_movl_loss_equals_the_formula_in_a_loop(kind: str, weight: float) -> None:
    loss = MoVLLoss(weight=weight, discrepancy=kind)(*tensors())  # type: ignore[arg-type]
    expected = cross_entropy([1.0, 1.0, 1.0], 0.0) + weight * discrepancy(kind)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("class_weights", "smoothing"), [([1.0, 2.0, 0.5], 0.0), ([1.0, 1.0, 1.0], 0.2), ([3.0, 1.0, 0.5], 0.1)]
)
def test_movl_loss_weights_classes_and_smooths_labels_as_a_loop_does(
    class_weights: list[float], smoothing: float
) -> None:
    loss = MoVLLoss(class_weights=class_weights, label_smoothing=smoothing)(*tensors())
    assert loss.item() == pytest.approx(cross_entropy(class_weights, smoothing), rel=1e-12)


@pytest.mark.parametrize("kind", ["kl", "mse", "l1", "cosine"])
def test_discrepancy_is_zero_for_equal_predictions_and_blind_to_a_constant(kind: str) -> None:
    logits, target, _ = tensors()
    loss = MoVLLoss(weight=1.0, discrepancy=kind)(logits, target, logits + 7.0)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, MoVLLoss()(logits, target))


@pytest.mark.parametrize("kind", ["kl", "mse", "l1", "cosine"])
def test_the_gradient_reaches_the_prompted_prediction_only(kind: str) -> None:
    logits, target, plain = tensors()
    logits.requires_grad_()
    plain.requires_grad_()
    MoVLLoss(weight=1.0, discrepancy=kind)(logits, target, plain).backward()  # type: ignore[arg-type]
    assert plain.grad is None
    assert logits.grad is not None
    reference = logits.detach().requires_grad_()
    MoVLLoss()(reference, target).backward()
    assert not torch.allclose(logits.grad, reference.grad)


def test_kl_stays_finite_for_certain_predictions_that_disagree() -> None:
    logits, plain = torch.tensor([[200.0, -200.0]], requires_grad=True), torch.tensor([[-200.0, 200.0]])
    loss = MoVLLoss(weight=1.0)(logits, torch.tensor([0]), plain)
    loss.backward()
    assert loss.item() == pytest.approx(400.0)
    assert bool(logits.grad.isfinite().all())


def test_movl_loss_without_weight_ignores_the_plain_prediction() -> None:
    logits, target, plain = tensors()
    loss = MoVLLoss()
    assert not loss.needs_plain
    assert torch.equal(loss(logits, target), loss(logits, target, plain))


def test_movl_loss_keeps_nothing_of_a_batch() -> None:
    loss = MoVLLoss(weight=1.0)
    before = set(vars(loss))
    loss(*tensors())
    assert set(vars(loss)) == before
    assert not loss.state_dict()


def test_movl_loss_demands_the_plain_prediction_when_it_is_compared_with() -> None:
    logits, target, plain = tensors()
    loss = MoVLLoss(weight=0.3)
    assert loss.needs_plain
    with pytest.raises(ValueError, match=r"With weight=0.3 .* pass plain_logits .* or set weight to 0"):
        loss(logits, target)
    with pytest.raises(ValueError, match=r"shape of logits \(4, 3\), got \(3, 3\)"):
        loss(logits, target, plain[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -0.1}, r"weight \(lambda\) must be finite and >= 0, got -0.1"),
        ({"weight": float("nan")}, "weight .* got nan"),
        ({"discrepancy": "js"}, "discrepancy must be one of .*'kl'.* got 'js'"),
        ({"label_smoothing": 1.5}, r"label_smoothing must be in \[0, 1\], got 1.5"),
        ({"class_weights": [1.0, 0.0]}, "class_weights must be positive"),
    ],
)
def test_movl_loss_refuses_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoVLLoss(**options)
