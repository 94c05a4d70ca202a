"""Tests of the weighted figures: scikit-learn with sample_weight is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.weighted import (
    METRICS,
    WeightedFigure,
    WeightedFigures,
    weighted_auroc,
    weighted_average_precision,
)
from tests.evaluation.data import random_logits


def per_class(metric: str, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> list[float]:
    function = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[metric]
    scores, count = softmax(logits), logits.shape[1]
    # with two classes scikit-learn takes the second; probabilities of the first may be tied where those are not
    columns = [1, 1] if count == 2 and metric == "auroc" else range(count)
    return [function(labels == c, scores[:, c], sample_weight=weights) for c in columns]


def oracle(metric: str, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    predicted, count = logits.argmax(1), logits.shape[1]
    if metric == "accuracy":
        return sk.accuracy_score(labels, predicted, sample_weight=weights)
    if metric == "balanced_accuracy":
        return sk.balanced_accuracy_score(labels, predicted, sample_weight=weights)
    if metric == "quadratic_kappa":
        return sk.cohen_kappa_score(labels, predicted, weights="quadratic", sample_weight=weights)
    if metric == "cross_entropy":
        return sk.log_loss(labels, softmax(logits), labels=np.arange(count), sample_weight=weights)
    if metric == "brier":
        squares = [sk.brier_score_loss(labels == c, softmax(logits)[:, c], sample_weight=weights) for c in range(count)]
        return float(np.sum(squares))
    share = np.bincount(labels, weights=weights) if metric.endswith("_weighted") else None
    return float(np.average(per_class(metric.removesuffix("_weighted"), labels, logits, weights), weights=share))


@pytest.mark.parametrize("num_classes", [2, 3, 6])
@pytest.mark.parametrize("metric", METRICS)
def test_weighted_figure_equals_scikit_learn_with_sample_weight(metric: str, num_classes: int) -> None:
    labels, logits = random_logits(120, num_classes)
    weights = np.random.default_rng(1).integers(0, 4, size=(120, 20)).astype(float)
    expected = [oracle(metric, labels, logits, column) for column in weights.T]
    np.testing.assert_allclose(WeightedFigure(labels, logits, metric=metric)(weights), expected, atol=1e-9)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_figures_per_class_equal_scikit_learn_with_sample_weight(num_classes: int) -> None:
    labels, logits = random_logits(120, num_classes)
    weights = np.random.default_rng(1).integers(0, 4, size=(120, 20)).astype(float)
    found = WeightedFigures(labels, logits).per_class(weights)
    for metric in ("auroc", "average_precision"):
        expected = [per_class(metric, labels, logits, column) for column in weights.T]
        np.testing.assert_allclose(found[metric].T, expected, atol=1e-9)
    for index in range(num_classes):
        columns = [(labels == index, logits.argmax(1) == index, column) for column in weights.T]
        sensitivity = [sk.recall_score(one, two, sample_weight=w) for one, two, w in columns]
        specificity = [sk.recall_score(~one, ~two, sample_weight=w) for one, two, w in columns]
        np.testing.assert_allclose(found["sensitivity"][index], sensitivity, atol=1e-9)
        np.testing.assert_allclose(found["specificity"][index], specificity, atol=1e-9)


def test_oracle_of_the_weighted_means_is_that_of_scikit_learn_too() -> None:
    labels, logits = random_logits(120, 4)
    expected = sk.roc_auc_score(labels, softmax(logits), multi_class="ovr", average="weighted")
    found = WeightedFigure(labels, logits, metric="auroc_weighted")(np.ones((120, 1)))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(max_examples=60)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=4, max_size=25),
    seed=st.integers(0, 1000),
)
def test_areas_with_many_ties_and_real_weights_equal_scikit_learn(scores: list[float], seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.permutation(np.arange(len(scores)) % 2 == 0)
    weights = generator.random((len(scores), 3)) + 0.01
    found = {"auroc": weighted_auroc, "average_precision": weighted_average_precision}
    functions = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
    for name, function in functions.items():
        expected = [function(positive, scores, sample_weight=column) for column in weights.T]
        np.testing.assert_allclose(found[name](positive, np.array(scores), weights), expected, atol=1e-9)


@pytest.mark.parametrize("positive", [True, False])
def test_areas_of_one_side_alone_have_no_value(positive: bool) -> None:
    side, scores = np.full(5, positive), np.arange(5.0)
    assert np.isnan(weighted_auroc(side, scores, np.ones((5, 2)))).all()
    assert np.isnan(weighted_average_precision(side, scores, np.ones((5, 2)))).all()


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc", "auroc_weighted", "average_precision"])
def test_weighted_figure_is_nan_where_a_class_has_no_weight(metric: str) -> None:
    labels, logits = random_logits(30, 3)
    weights = np.stack([np.ones(30), (labels != 2).astype(float)], axis=1)
    assert np.isnan(WeightedFigure(labels, logits, metric=metric)(weights)).tolist() == [False, True]


def test_unknown_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="metric must be one of accuracy, .*, got 'dice'"):
        WeightedFigure(*random_logits(), metric="dice")
