"""OrdinalHead: the formula of cumulative logits, and its exact probe against a general optimiser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from movl_monai.engines import LinearProbe, fit_linear_probe, standardization
from movl_monai.heads import OrdinalHead
from movl_monai.networks import AdaptedClassifier
from tests.helpers import tiny_backbone


def _grades(count: int = 90, width: int = 6, grades: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(grades)
    features = torch.randn(count, width, generator=generator, dtype=torch.float64)
    noisy = features[:, 0] + 0.5 * torch.randn(count, generator=generator, dtype=torch.float64)
    return features, torch.bucketize(noisy, torch.linspace(-1, 1, grades - 1, dtype=torch.float64))


def _direct(score: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) as differences of the cumulative ones."""
    below = 1 / (1 + np.exp(score[:, None] - thresholds))
    return np.diff(np.concatenate([np.zeros((len(score), 1)), below, np.ones((len(score), 1))], axis=1), axis=1)


def test_probabilities_are_differences_of_the_cumulative_ones() -> None:
    features, weight = torch.randn(7, 5).double(), torch.randn(1, 5).double()
    bias = torch.tensor([-1.0, -2.0, 0.5]).double()
    thresholds = np.cumsum([-1.0, np.log1p(np.exp(-2.0)), np.log1p(np.exp(0.5))])
    expected = _direct((features @ weight.T)[:, 0].numpy(), thresholds)
    np.testing.assert_allclose(OrdinalHead.logits(features, weight, bias).exp().numpy(), expected, atol=1e-12)


def test_far_scores_and_close_thresholds_stay_finite() -> None:
    head = OrdinalHead(1, 3)
    with torch.no_grad():
        head.weight.fill_(1)
        head.bias.copy_(torch.tensor([0.0, -60.0]))
    out = head(torch.tensor([[-1e4], [0.0], [1e4]]))
    assert torch.isfinite(out).all()
    assert out.argmax(dim=1).tolist() == [0, 0, 2]
    assert torch.equal(torch.jit.script(head)(torch.tensor([[0.3]])), head(torch.tensor([[0.3]])))


@pytest.mark.parametrize("l2", [1.0, 1e-2])
def test_the_exact_probe_is_the_optimum(l2: float) -> None:
    features, labels = _grades()
    weight, bias = fit_linear_probe(features, labels, num_classes=4, l2=l2, head=OrdinalHead)
    values, truth = features.numpy(), labels.numpy()

    def objective(free: np.ndarray) -> float:
        chance = _direct(values @ free[:6], np.cumsum([free[6], *np.exp(free[7:])]))
        return float(-np.log(chance[np.arange(90), truth]).mean() + 0.5 * l2 * (free[:6] ** 2).sum())

    oracle = minimize(objective, np.zeros(9), method="BFGS", options={"gtol": 1e-9}).x
    expected = _direct(values @ oracle[:6], np.cumsum([oracle[6], *np.exp(oracle[7:])]))
    np.testing.assert_allclose(OrdinalHead.logits(features, weight, bias).exp().numpy(), expected, atol=1e-5)


def test_two_grades_are_a_logistic_regression() -> None:
    features, labels = _grades(grades=2)
    weight, bias = fit_linear_probe(features, labels, num_classes=2, l2=0.1, head=OrdinalHead)
    oracle = LogisticRegression(C=1 / (90 * 0.1), tol=1e-10, max_iter=10_000).fit(features.numpy(), labels.numpy())
    ours = OrdinalHead.logits(features, weight, bias).exp().numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(features.numpy()), atol=1e-5)


def test_the_probe_of_a_network_is_that_of_its_head() -> None:
    backbone = tiny_backbone()
    network = AdaptedClassifier(backbone=backbone, head=OrdinalHead(backbone.spec.num_features, 3))
    features, labels = _grades(width=backbone.spec.num_features, grades=3)
    data = SimpleNamespace(values=features.float(), labels=labels)
    solver = LinearProbe(data, data, num_classes=3, l2=0.1)
    solver.apply(network)
    mean, scale = standardization(features.float().double())
    z = (features.float().double() - mean) / scale
    weight, bias = fit_linear_probe(z, labels, num_classes=3, l2=0.1, head=OrdinalHead)
    expected = OrdinalHead.logits(z, weight, bias)
    torch.testing.assert_close(network.head(features.float()).double(), expected, atol=1e-4, rtol=1e-4)
