"""The exact probes of findings and of a number against scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from movl_monai.engines import FindingsProbe, NumberProbe, fit_findings, fit_ridge, standardization
from movl_monai.errors import ConfigError, DataError
from movl_monai.heads import LinearHead, QueryHead

NAN = float("nan")


def problem(count: int = 150, width: int = 12, findings: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, width, generator=generator, dtype=torch.float64)
    scores = features[:, :findings] + torch.randn(count, findings, generator=generator) - torch.arange(findings) / 2
    labels = (scores > 0).double()
    labels[torch.rand(count, findings, generator=generator) < 0.2] = NAN
    return features, labels


def objective(z: np.ndarray, y: np.ndarray, w: np.ndarray, b: float, l2: float, positive: float) -> float:
    scores = z @ w + b
    losses = np.logaddexp(0, scores) - y * scores
    return float(np.mean(losses * np.where(y > 0, positive, 1)) + 0.5 * l2 * w @ w)


@pytest.mark.parametrize("weights", [None, [1.0, 2.5, 7.0]])
@pytest.mark.parametrize("l2", [[1.0, 0.1, 1e-3], [1e-5, 1e-5, 10.0]])
def test_findings_equal_scikit_learns_on_their_known_rows(l2: list[float], weights: list[float] | None) -> None:
    features, labels = problem()
    positive = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    weight, bias = fit_findings(features, labels, l2=torch.tensor(l2), positive_weights=positive)
    for k, strength in enumerate(l2):
        known = ~labels[:, k].isnan()
        z, y = features[known].numpy(), labels[known, k].numpy()
        factor = 1.0 if weights is None else weights[k]
        oracle = LogisticRegression(
            C=1 / (len(y) * strength),
            class_weight={0: 1, 1: factor},
            solver="newton-cholesky",
            tol=1e-12,
            max_iter=1000,
        ).fit(z, y)
        ours = z @ weight[k].numpy() + float(bias[k])
        np.testing.assert_allclose(ours, oracle.decision_function(z), atol=1e-6, rtol=0)
        reached = objective(z, y, weight[k].numpy(), float(bias[k]), strength, factor)
        assert reached <= objective(z, y, oracle.coef_[0], float(oracle.intercept_[0]), strength, factor) + 1e-9


def test_a_finding_is_solved_as_if_it_were_alone() -> None:
    features, labels = problem()
    together = fit_findings(features, labels, l2=torch.full((3,), 0.01))
    alone = fit_findings(features, labels[:, 1:2], l2=torch.tensor([0.01]))
    torch.testing.assert_close(together[0][1], alone[0][0], atol=1e-8, rtol=0)
    with pytest.raises(DataError, match="finding 1 .* with and without"):
        fit_findings(features, torch.stack([labels[:, 0], torch.ones(150)], dim=1), l2=torch.ones(2))


@pytest.mark.parametrize("count", [150, 8])
@pytest.mark.parametrize("l2", [10.0, 1e-5])
def test_the_number_equals_scikit_learns_ridge(count: int, l2: float) -> None:
    features, _ = problem(count)
    targets = features @ torch.arange(12.0).double() + 3 + torch.randn(count, dtype=torch.float64)
    weights, biases = fit_ridge(features, targets, l2=[1.0, l2])
    oracle = Ridge(alpha=count * l2 / 2, solver="svd", tol=1e-14).fit(features.numpy(), targets.numpy())
    np.testing.assert_allclose(features @ weights[1] + biases[1], oracle.predict(features.numpy()), atol=1e-9, rtol=0)


def sets(labels: torch.Tensor, features: torch.Tensor) -> list[Any]:
    half = len(labels) // 2
    return [
        SimpleNamespace(values=features[part].float(), labels=labels[part].float())
        for part in (slice(half), slice(half, None))
    ]


def test_every_finding_has_the_strength_that_is_best_on_val() -> None:
    features, labels = problem()
    labels[75:, 2] = NAN  # not known in val
    train, val = sets(labels, features)
    probe = FindingsProbe(train, val, num_classes=3, class_weights="balanced", l2=(grid := [1.0, 0.1, 0.01, 1e-4]))
    chosen = probe.solve()
    losses = {}
    for l2 in grid:
        alone = FindingsProbe(train, val, num_classes=3, class_weights="balanced", l2=l2).solve()
        logits = (val.values - alone.mean) / alone.scale @ alone.weight.T + alone.bias
        table = torch.nn.functional.binary_cross_entropy_with_logits(logits, val.labels, reduction="none")
        losses[l2] = table.nanmean(dim=0)
    best = [min(grid, key=lambda l2: float(losses[l2][k])) for k in range(2)]
    assert chosen.l2[:2] == tuple(best)
    assert chosen.l2[2] == min(grid, key=lambda l2: float(losses[l2][:2] @ (~val.labels.isnan()).sum(0)[:2].float()))
    shares = (~train.labels.isnan()).sum(dim=0) / (~train.labels.isnan()).sum()
    torch.testing.assert_close(chosen.penalty, torch.tensor(chosen.l2, dtype=torch.float64) * shares.double())


def test_many_features_give_the_same_probes_in_fewer_coordinates() -> None:
    generator = torch.Generator().manual_seed(1)
    features, labels = torch.randn(40, 300, generator=generator).double(), problem(40)[1]
    labels[:4] = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    train, _ = sets(torch.cat([labels, labels]), torch.cat([features, features]))
    solution = FindingsProbe(train, train, num_classes=3, l2=0.1).solve()
    mean, scale = standardization(train.values.double())
    z = (train.values.double() - mean) / scale
    weight, bias = fit_findings(z, train.labels, l2=torch.full((3,), 0.1))
    torch.testing.assert_close(solution.weight.double(), weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(solution.bias.double(), bias, atol=1e-6, rtol=0)


@pytest.mark.parametrize("head", [LinearHead(12, 1), QueryHead(12, 1, token_width=8)], ids=["linear", "query"])
def test_the_solved_head_gives_numbers_in_their_units(head: Any) -> None:
    features, _ = problem()
    numbers = 1000 + 50 * features[:, 0] + torch.randn(150, dtype=torch.float64)
    numbers[3] = NAN
    train, val = sets(numbers, features)
    strength = NumberProbe(train, val, num_classes=1, l2=[1.0, 1e-4]).apply(SimpleNamespace(head=head))
    assert strength == 1e-4
    tokens = (torch.zeros(75, 5, 8),) if isinstance(head, QueryHead) else ()
    errors = head(val.values, *tokens).detach()[:, 0] - val.labels
    assert float(errors.abs().mean()) < 2
    with pytest.raises(ConfigError, match="class_weights are weights of classes"):
        NumberProbe(train, val, num_classes=1, class_weights="balanced").apply(SimpleNamespace(head=head))
