"""Figures that select, under weights, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from movl_monai.metrics.selecting import best_value, selecting_figure


def test_the_macro_auroc_equals_scikit_learns_with_sample_weights() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((60, 3)) < (0.5, 0.2, 0.1)).astype(float)
    labels[random.random((60, 3)) < 0.3] = np.nan
    logits = np.round(random.normal(size=(60, 3)) + np.nan_to_num(labels), 1)  # with ties
    weights = random.integers(0, 4, (60, 5)).astype(float)
    values, losses = selecting_figure("macro_auroc", labels, logits)(weights)
    known = ~np.isnan(labels)
    for r in range(5):
        expected = [
            roc_auc_score(labels[known[:, k], k], logits[known[:, k], k], sample_weight=weights[known[:, k], r])
            for k in range(3)
        ]
        assert values[r] == pytest.approx(np.mean(expected), abs=1e-12)
        counted = np.broadcast_to(weights[:, [r]], (60, 3))[known]
        loss = log_loss(labels[known], 1 / (1 + np.exp(-logits[known])), sample_weight=counted)
        assert losses[r] == pytest.approx(loss, abs=1e-12)


def test_the_error_of_numbers_equals_scikit_learns_and_is_best_at_zero() -> None:
    random = np.random.default_rng(1)
    labels, predictions, weights = random.normal(size=40), random.normal(size=(40, 1)), random.random((40, 4))
    labels[:5] = np.nan
    values, losses = selecting_figure("negative_mae", labels, predictions)(weights)
    for r in range(4):
        options = {"sample_weight": weights[5:, r]}
        assert values[r] == pytest.approx(-mean_absolute_error(labels[5:], predictions[5:, 0], **options), abs=1e-12)
        squared = mean_squared_error(labels[5:], predictions[5:, 0], **options)
        assert losses[r] == pytest.approx(squared**0.5, abs=1e-12)
    assert values.max() < best_value("negative_mae") == 0
    with pytest.raises(ValueError, match="figure must be one of"):
        selecting_figure("dice", labels, predictions)
