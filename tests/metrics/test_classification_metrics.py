"""Tests of the figures: scikit-learn is the oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

from movl_monai.evaluation import NonFiniteLogitsError, UndefinedMetricError
from movl_monai.metrics import classification_metrics as metrics
from tests.evaluation.data import random_logits

CASES = [(num_classes, seed) for num_classes in (2, 3, 7) for seed in range(3)]
EVERY = [
    metrics.accuracy,
    metrics.balanced_accuracy,
    metrics.macro_auroc,
    metrics.macro_average_precision,
    metrics.quadratic_kappa,
    metrics.cross_entropy,
    metrics.brier_score,
    metrics.expected_calibration_error,
]


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("num_classes", "seed"), CASES)
def test_decision_figures_equal_those_of_scikit_learn(num_classes: int, seed: int) -> None:
    labels, logits = random_logits(90, num_classes, seed=seed)
    predicted = logits.argmax(axis=1)
    assert metrics.accuracy(labels, logits) == near(sk.accuracy_score(labels, predicted))
    assert metrics.balanced_accuracy(labels, logits) == near(sk.balanced_accuracy_score(labels, predicted))
    assert metrics.quadratic_kappa(labels, logits) == near(sk.cohen_kappa_score(labels, predicted, weights="quadratic"))
    np.testing.assert_array_equal(metrics.confusion_matrix(labels, logits), sk.confusion_matrix(labels, predicted))
    recalls = sk.recall_score(labels, predicted, average=None)
    np.testing.assert_allclose(metrics.sensitivity_per_class(labels, logits), recalls, atol=1e-9)
    others = [sk.recall_score(labels != c, predicted != c) for c in range(num_classes)]
    np.testing.assert_allclose(metrics.specificity_per_class(labels, logits), others, atol=1e-9)


@pytest.mark.parametrize(("num_classes", "seed"), CASES)
def test_probability_figures_equal_those_of_scikit_learn(num_classes: int, seed: int) -> None:
    labels, logits = random_logits(90, num_classes, seed=seed)
    probabilities = metrics.softmax(logits)
    scores = probabilities[:, 1] if num_classes == 2 else probabilities
    assert metrics.macro_auroc(labels, probabilities) == near(sk.roc_auc_score(labels, scores, multi_class="ovr"))
    truth = np.eye(num_classes)[labels]
    assert metrics.macro_average_precision(labels, probabilities) == near(
        sk.average_precision_score(truth, probabilities)
    )
    assert metrics.cross_entropy(labels, logits) == near(sk.log_loss(labels, probabilities))
    each = [sk.brier_score_loss(labels == c, probabilities[:, c]) for c in range(num_classes)]
    assert metrics.brier_score(labels, probabilities) == near(sum(each))


@pytest.mark.parametrize("num_bins", [1, 5, 15])
def test_calibration_error_equals_the_formula_in_a_loop(num_bins: int) -> None:
    labels, logits = random_logits(200, 4, seed=1)
    probabilities = metrics.softmax(logits)
    expected = 0.0
    for b in range(1, num_bins + 1):
        members = [
            (max(row), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if (b - 1) / num_bins < max(row) <= b / num_bins
        ]
        if members:
            confidence, correct = (np.mean(part) for part in zip(*members, strict=True))
            expected += len(members) / len(labels) * abs(correct - confidence)
    assert metrics.expected_calibration_error(labels, probabilities, num_bins=num_bins) == near(expected)


def test_calibration_error_is_zero_where_confidence_is_accuracy() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    assert metrics.expected_calibration_error([0, 0, 0, 1], probabilities) == 0.0


def test_cross_entropy_stays_finite_where_the_probability_is_zero_in_float64() -> None:
    assert metrics.cross_entropy([0], [[0.0, 2000.0]]) == 2000.0


@pytest.mark.parametrize("function", EVERY)
def test_order_of_images_changes_no_figure(function: Callable[..., float]) -> None:
    labels, logits = random_logits(80, 3)
    scores = logits if function is metrics.cross_entropy else metrics.softmax(logits)
    order = np.random.default_rng(1).permutation(80)
    assert function(labels[order], scores[order]) == pytest.approx(function(labels, scores), abs=1e-12)


@pytest.mark.parametrize("function", EVERY)
def test_figures_of_no_images_are_undefined(function: Callable[..., float]) -> None:
    with pytest.raises(UndefinedMetricError):
        function(np.zeros(0, dtype=int), np.zeros((0, 2)))


@pytest.mark.parametrize("function", [metrics.balanced_accuracy, metrics.macro_auroc, metrics.macro_average_precision])
def test_means_over_classes_are_undefined_where_a_class_has_no_images(function: Callable[..., float]) -> None:
    labels, logits = random_logits(40, 3)
    labels = np.where(labels == 2, 1, labels)
    with pytest.raises(UndefinedMetricError, match="no value for 1 of 3 classes"):
        function(labels, metrics.softmax(logits))


def test_classes_without_images_have_nan_and_the_others_their_figure() -> None:
    labels, logits = np.array([0, 1, 1]), np.array([[2.0, 1, 0], [0, 1, 0], [2, 1, 0]])
    np.testing.assert_array_equal(metrics.sensitivity_per_class(labels, logits), [1, 0.5, np.nan])
    assert np.isnan(metrics.auroc_per_class(labels, metrics.softmax(logits))).tolist() == [False, False, True]


def test_kappa_is_undefined_where_everything_is_of_one_class() -> None:
    with pytest.raises(UndefinedMetricError, match="one class"):
        metrics.quadratic_kappa([1, 1], [[0, 1], [0, 1]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", EVERY)
def test_scores_that_are_not_finite_are_refused(function: Callable[..., float], value: float) -> None:
    with pytest.raises(NonFiniteLogitsError, match="1 of 2 images"):
        function([0, 1], [[1.0, 0.0], [value, 1.0]])


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1, 1], np.zeros((2, 2)), r"Expected labels \(N,\)"),
        ([0, 1], np.zeros(2), r"Expected labels \(N,\)"),
        ([0, 1], np.zeros((2, 1)), "C >= 2"),
        ([0, 2], np.zeros((2, 2)), r"must be in \[0, 2\).*got 0 to 2"),
        ([-1, 0], np.zeros((2, 2)), "leave images without a label out"),
        ([0.0, 1.0], np.zeros((2, 2)), "must be integers"),
    ],
)
def test_labels_and_scores_that_do_not_fit_are_refused(labels: list, scores: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metrics.accuracy(labels, scores)
