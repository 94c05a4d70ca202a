"""LinearHead: the linear probe's formula, its start, and taking over a solution."""

from __future__ import annotations

import pytest
import torch

from movl_monai.heads import LinearHead


def solution(num_features: int = 5, num_classes: int = 3) -> tuple[torch.Tensor, ...]:
    return (
        torch.randn(num_classes, num_features),
        torch.randn(num_classes),
        torch.randn(num_features),
        torch.tensor(2.5),
    )


def test_linear_head_predicts_uniformly_at_its_start() -> None:
    torch.testing.assert_close(LinearHead(5, 3)(1e4 * torch.randn(7, 5)).softmax(dim=1), torch.full((7, 3), 1 / 3))


def test_linear_head_equals_the_formula_in_a_loop() -> None:
    head, features = LinearHead(5, 3), torch.randn(7, 5)
    weight, bias, mean, scale = solution()
    head.load_solution(weight, bias, mean, scale)
    expected = [
        [
            sum(float(weight[c, d] * (features[i, d] - mean[d]) / scale) for d in range(5)) + float(bias[c])
            for c in range(3)
        ]
        for i in range(7)
    ]
    torch.testing.assert_close(head(features), torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_linear_head_state_round_trip_keeps_the_standardisation() -> None:
    head, other = LinearHead(5, 3), LinearHead(5, 3)
    head.load_solution(*solution())
    other.load_state_dict(head.state_dict())
    features = torch.randn(2, 5)
    assert torch.equal(other(features), head(features))
    assert other.scale.item() == 2.5


def test_linear_head_trains_weight_and_bias_only() -> None:
    assert sorted(name for name, _ in LinearHead(5, 3).named_parameters()) == ["bias", "weight"]


def test_linear_head_standardisation_accepts_a_float_and_leaves_the_weight() -> None:
    head = LinearHead(5, 3, init="uniform")
    before = head.weight.detach().clone()
    head.set_standardization(torch.arange(5.0).double(), 4.0)
    assert torch.equal(head.weight, before)
    assert head.mean.tolist() == [0, 1, 2, 3, 4]
    assert head.mean.dtype == torch.float32
    assert head.scale.shape == ()


def test_linear_head_uniform_start_is_bounded_and_repeats_with_its_seed() -> None:
    first, again, other = (LinearHead(100, 10, init="uniform", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert 0.09 < first.weight.abs().max() <= 0.1


def test_linear_head_scripts() -> None:
    head, features = LinearHead(5, 3, init="uniform"), torch.randn(2, 5)
    torch.testing.assert_close(torch.jit.script(head)(features), head(features))


@pytest.mark.parametrize(("features", "classes"), [(0, 2), (4, 0)])
def test_linear_head_refuses_sizes_that_make_no_head(features: int, classes: int) -> None:
    with pytest.raises(ValueError, match=f">= 1 output, got {features} and {classes}"):
        LinearHead(features, classes)


def test_linear_head_refuses_an_unknown_start() -> None:
    with pytest.raises(ValueError, match="'zeros' or 'uniform', got 'ones'"):
        LinearHead(4, 2, init="ones")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_linear_head_refuses_a_scale_that_cannot_divide(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be positive and finite"):
        LinearHead(5, 3).set_standardization(torch.zeros(5), scale)


def test_linear_head_refuses_a_solution_for_other_sizes_and_stays_as_it_was() -> None:
    head = LinearHead(5, 3)
    with pytest.raises(ValueError, match=r"expected weight \(3, 5\) and bias \(3,\), got \(2, 5\) and \(2,\)"):
        head.load_solution(*solution(num_classes=2))
    with pytest.raises(ValueError, match=r"mean must have shape \(5,\), got \(4,\)"):
        head.load_solution(torch.ones(3, 5), torch.ones(3), torch.zeros(4), 1.0)
    assert not head.weight.any()
