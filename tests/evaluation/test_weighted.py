"""Tests of the weighted figures: scikit-learn with sample_weight is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from movl_monai.evaluation import WeightedFigure
from movl_monai.evaluation.metrics import softmax
from movl_monai.evaluation.weighted import METRICS
from tests.evaluation.data import random_logits


def oracle(metric: str, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    if metric == "accuracy":
        return sk.accuracy_score(labels, logits.argmax(1), sample_weight=weights)
    if metric == "balanced_accuracy":
        return sk.balanced_accuracy_score(labels, logits.argmax(1), sample_weight=weights)
    scores = softmax(logits)
    classes = [1] if logits.shape[1] == 2 else range(logits.shape[1])
    areas = [sk.roc_auc_score(labels == c, scores[:, c], sample_weight=weights) for c in classes]
    return float(np.mean(areas))


@pytest.mark.parametrize("num_classes", [2, 3, 6])
@pytest.mark.parametrize("metric", METRICS)
def test_weighted_figure_equals_scikit_learn_with_sample_weight(metric: str, num_classes: int) -> None:
    labels, logits = random_logits(120, num_classes)
    weights = np.random.default_rng(1).integers(0, 4, size=(120, 20)).astype(float)
    expected = [oracle(metric, labels, logits, column) for column in weights.T]
    np.testing.assert_allclose(WeightedFigure(labels, logits, metric=metric)(weights), expected, atol=1e-9)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc"])
def test_weighted_figure_is_nan_where_a_class_has_no_weight(metric: str) -> None:
    labels, logits = random_logits(30, 3)
    weights = np.stack([np.ones(30), (labels != 2).astype(float)], axis=1)
    assert np.isnan(WeightedFigure(labels, logits, metric=metric)(weights)).tolist() == [False, True]


def test_unknown_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="metric must be one of accuracy, balanced_accuracy, auroc, got 'dice'"):
        WeightedFigure(*random_logits(), metric="dice")
