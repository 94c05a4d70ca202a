"""Poolings: order, padding, single instances, their starts, and the formulas by loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from movl_monai.errors import ConfigError
from movl_monai.heads import AttentionPooling, NoisyOrPooling, make_pooling

NAMES = ["mean", "max", "noisy_or", "attention"]


def _pooling(name: str) -> nn.Module:
    pooling = make_pooling(name, num_features=6, num_classes=2, width=5)
    for parameter in pooling.parameters():
        parameter.data.normal_()
    return pooling.eval()


def _results(pooling: nn.Module, instances: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Features, weights, and the logits of a pooling that makes them, for logits that are two of the features."""
    found = list(pooling(instances, mask))
    return [*found, *(pooling.combine(instances[:, :, :2], mask) if hasattr(pooling, "combine") else ())]


@pytest.mark.parametrize("name", NAMES)
def test_neither_order_nor_padding_changes_the_result(name: str) -> None:
    pooling, instances = _pooling(name), torch.randn(1, 7, 6)
    expected = _results(pooling, instances, torch.ones(1, 7, dtype=torch.bool))
    order = torch.randperm(7)
    mask = torch.tensor([[True] * 7 + [False] * 4])
    padded = torch.cat([instances[:, order], torch.full((1, 4, 6), 1e3)], dim=1)
    for one, other in zip(expected, _results(pooling, padded, mask), strict=True):
        if one.shape == (1, 7):  # weights go with their instances
            assert bool((other[:, 7:] == 0).all())
            one, other = one[:, order], other[:, :7]
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(expected[1].sum(), torch.tensor(1.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_single_instance_keeps_its_features(name: str) -> None:
    instances = torch.randn(3, 1, 6)
    features, weights = _pooling(name)(instances, torch.ones(3, 1, dtype=torch.bool))
    torch.testing.assert_close(features, instances[:, 0], atol=1e-6, rtol=0)
    assert weights.tolist() == [[1.0]] * 3


def test_attention_is_equation_9_and_starts_as_the_mean() -> None:
    pooling, h = AttentionPooling(6, width=5), torch.randn(4, 6)
    mask = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(pooling(h[None], mask)[0], h.mean(dim=0, keepdim=True))
    pooling.score.data.normal_()
    scores = []
    for row in nn.functional.layer_norm(h, [6]):
        hidden = torch.tanh(pooling.content @ row) * torch.sigmoid(pooling.gate @ row)
        scores.append((pooling.score @ hidden).exp())
    weights = torch.cat(scores) / sum(scores)
    features, found = pooling(h[None], mask)
    torch.testing.assert_close(found[0], weights)
    torch.testing.assert_close(features[0], (weights[:, None] * h).sum(dim=0))


@pytest.mark.parametrize("each", [False, True])
def test_noisy_or_is_one_minus_the_product(each: bool) -> None:
    pooling, logits = NoisyOrPooling(2, each=each), 3 * torch.randn(5, 4, 2, dtype=torch.float64)
    pooling.bias.data.normal_()
    pooling.double()
    found, weights = pooling.combine(logits, torch.ones(5, 4, dtype=torch.bool))
    single = logits if each else logits[:, :, 1:] - logits[:, :, :1]
    expected = 1 - (1 - torch.sigmoid(single + pooling.bias)).prod(dim=1)
    odds = found if each else found[:, 1:] - found[:, :1]
    torch.testing.assert_close(torch.sigmoid(odds), expected)
    assert bool((weights >= 0).all())


def test_noisy_or_of_one_instance_is_its_probability_even_far_out() -> None:
    logits = torch.tensor([-60.0, -9.0, 0.0, 9.0, 80.0])[:, None, None] * torch.tensor([0.0, 1.0])
    found = NoisyOrPooling(2).combine(logits, torch.ones(5, 1, dtype=torch.bool))[0]
    torch.testing.assert_close(found.diff(dim=1), logits[:, 0].diff(dim=1), atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(found.softmax(dim=1), logits[:, 0].softmax(dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("each", [False, True])
def test_the_warm_start_predicts_the_frequency(each: bool) -> None:
    logits, mask = torch.randn(40, 30, 2), torch.rand(40, 30) > 0.3
    labels = (torch.arange(40) % 4 == 0).long()
    given = torch.stack([labels.float(), 1 - labels.float()], dim=1) if each else labels
    if each:
        given[5:9] = float("nan")
    pooling = NoisyOrPooling(2, each=each)
    pooling.warm_start(logits, mask, given)
    found = pooling.combine(logits, mask)[0]
    mean = (torch.sigmoid(found)[~given.isnan().any(dim=1)] if each else found.softmax(dim=1)[:, 1:]).mean(dim=0)
    expected = given[~given.isnan().any(dim=1)].mean(dim=0) if each else torch.tensor([0.25])
    torch.testing.assert_close(mean, expected, atol=1e-4, rtol=0)


def test_other_names_and_noisy_or_of_three_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="mean, max, noisy_or or attention, got 'sum'"):
        make_pooling("sum", num_features=4, num_classes=2)
    with pytest.raises(ConfigError, match="for two classes"):
        make_pooling("noisy_or", num_features=4, num_classes=3)
    make_pooling("noisy_or", num_features=4, num_classes=3, task="multilabel")
