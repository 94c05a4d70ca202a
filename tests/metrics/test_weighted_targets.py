"""Figures of findings and numbers under weights, against scikit-learn on repeated images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from movl_monai.metrics.weighted_targets import WeightedErrors, WeightedFindings


def test_findings_equal_scikit_learns_with_sample_weights() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((60, 3)) < (0.5, 0.2, 0.1)).astype(float)
    labels[random.random((60, 3)) < 0.3] = np.nan
    logits = np.round(random.normal(size=(60, 3)) + np.nan_to_num(labels), 1)  # with ties
    weights = random.integers(0, 4, (60, 5)).astype(float)
    figures = WeightedFindings(labels, logits)
    found, areas = figures(weights), figures.auroc(weights)
    known = ~np.isnan(labels)
    for r in range(5):
        expected = [
            roc_auc_score(labels[known[:, k], k], logits[known[:, k], k], sample_weight=weights[known[:, k], r])
            for k in range(3)
        ]
        np.testing.assert_allclose(areas[:, r], expected, atol=1e-12)
        assert found["macro_auroc"][r] == pytest.approx(np.mean(expected), abs=1e-12)
        loss = log_loss(
            labels[known],
            1 / (1 + np.exp(-logits[known])),
            sample_weight=np.broadcast_to(weights[:, [r]], (60, 3))[known],
        )
        assert found["cross_entropy"][r] == pytest.approx(loss, abs=1e-12)


def test_a_finding_with_one_side_alone_is_left_out_of_the_mean() -> None:
    labels = np.array([[1, 1], [0, np.nan], [0, 1]])
    logits = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    weights = np.array([[1, 0], [1, 1], [1, 1]], dtype=float)
    np.testing.assert_array_equal(WeightedFindings(labels, logits)(weights)["macro_auroc"], [0.5, np.nan])


def test_errors_equal_scikit_learns_with_sample_weights() -> None:
    random = np.random.default_rng(1)
    labels, predictions, weights = random.normal(size=40), random.normal(size=(40, 1)), random.random((40, 4))
    labels[:5] = np.nan
    found = WeightedErrors(labels, predictions)(weights)
    for r in range(4):
        options = {"sample_weight": weights[5:, r]}
        absolute = mean_absolute_error(labels[5:], predictions[5:, 0], **options)
        squared = mean_squared_error(labels[5:], predictions[5:, 0], **options)
        assert found["mean_absolute_error"][r] == pytest.approx(absolute, abs=1e-12)
        assert found["mean_squared_error"][r] == pytest.approx(squared, abs=1e-12)
    assert np.isnan(WeightedErrors([np.nan], [0.0])(np.ones((1, 1)))["mean_absolute_error"][0])
