"""Figures of findings: scikit-learn and written loops as oracles, masked labels, and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn import metrics as sk

from movl_monai.errors import MovlError
from movl_monai.metrics.classification_metrics import UndefinedMetricError
from movl_monai.metrics.findings import FINDING_METRICS, FindingFigures, cooccurrence, finding_thresholds, of_finding
from movl_monai.metrics.operating_points import choose_balanced_threshold, operating_points_report
from movl_monai.metrics.stored.predictions import Predictions

NAMES = ["Effusion", "Mass", "Nodule"]


def drawn(count: int = 90, *, seed: int = 0, missing: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N, 3) with gaps, and logits that know a little, with ties."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, 3)).round(1) - [0.5, 1.0, 1.5]
    labels = (expit(logits) > draw.random((count, 3))).astype(float)
    labels[draw.random((count, 3)) < missing] = np.nan
    return labels, logits


def oracle(labels: np.ndarray, logits: np.ndarray, thresholds: list[float]) -> dict[str, float]:
    known, scores = ~np.isnan(labels), expit(logits)
    calls = scores >= np.array(thresholds)
    columns = [(labels[rows, k], scores[rows, k], calls[rows, k]) for k, rows in enumerate(known.T)]
    flat, ranked, said = labels[known], scores[known], calls[known]
    whole = known.all(axis=1)
    return {
        "auroc": np.mean([sk.roc_auc_score(truth, score) for truth, score, _ in columns]),
        "average_precision": np.mean([sk.average_precision_score(truth, score) for truth, score, _ in columns]),
        "sensitivity": np.mean([sk.recall_score(truth, call) for truth, _, call in columns]),
        "specificity": np.mean([sk.recall_score(1 - truth, ~call) for truth, _, call in columns]),
        "micro_auroc": sk.roc_auc_score(flat, ranked),
        "micro_average_precision": sk.average_precision_score(flat, ranked),
        "micro_sensitivity": sk.recall_score(flat, said),
        "micro_specificity": sk.recall_score(1 - flat, ~said),
        "micro_f1": sk.f1_score(flat, said),
        "exact_match": sk.accuracy_score(labels[whole], calls[whole]),
        "cross_entropy": sk.log_loss(flat, ranked),
    }


def test_figures_equal_scikit_learn_also_when_resampled() -> None:
    labels, logits = drawn()
    thresholds = [0.3, 0.4, 0.2]
    figures = FindingFigures(labels, logits, thresholds=thresholds)
    weights = np.random.default_rng(1).integers(0, 3, size=(len(labels), 5)).astype(float)
    weights[:, 0] = 1
    found = figures(weights)
    assert tuple(found) == FINDING_METRICS
    for column in range(5):
        rows = np.repeat(np.arange(len(labels)), weights[:, column].astype(int))
        expected = oracle(labels[rows], logits[rows], thresholds)
        for name, value in expected.items():
            assert found[name][column] == pytest.approx(value, abs=1e-9), name


@given(st.integers(0, 1000), st.integers(2, 40))
def test_a_threshold_is_the_best_of_the_roc_curve(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    positive, scores = draw.random(count) < 0.5, draw.random(count).round(1)
    if positive.all() or not positive.any():
        with pytest.raises(UndefinedMetricError):
            choose_balanced_threshold(positive, scores)
        return
    called = scores >= choose_balanced_threshold(positive, scores)
    false, true, _ = sk.roc_curve(positive, scores)
    assert called[positive].mean() - called[~positive].mean() == pytest.approx((true - false).max(), abs=1e-12)


def test_unknown_labels_change_nothing() -> None:
    labels, logits = drawn()
    more, unknown = np.vstack([labels, np.full((7, 3), np.nan)]), np.vstack([logits, np.full((7, 3), 3.0)])
    one, other = FindingFigures(labels, logits), FindingFigures(more, unknown)
    a, b = one(np.ones((len(labels), 1))), other(np.ones((len(more), 1)))
    assert list(a) == list(b)
    assert np.concatenate(list(a.values())) == pytest.approx(np.concatenate(list(b.values())), abs=1e-12)


def test_a_finding_is_a_classification_of_two_classes() -> None:
    labels, logits = drawn()
    images = Predictions(ids=[str(row) for row in range(len(labels))], logits=logits, labels=labels)
    for index in range(3):
        part = of_finding(images, index)
        known = ~np.isnan(labels[:, index])
        assert part.logits.tolist() == [[0.0, z] for z in logits[known, index]]
        assert part.labels.tolist() == labels[known, index].tolist()
        value = finding_thresholds(images, NAMES)[NAMES[index]]["threshold"]
        assert value is not None
        shifted = of_finding(images, index, threshold=value).logits.argmax(axis=1)
        assert shifted.tolist() == (expit(logits[known, index]) >= value).astype(int).tolist()
        point = operating_points_report({"val": part}, class_names=["no", "yes"], rounds=5)["points"][0]
        called = softmax(part.logits, axis=1)[:, 1] >= point["threshold"]
        assert point["sections"]["val"]["sensitivity"] == called[labels[known, index] == 1].mean()


def test_findings_without_positives_have_no_value() -> None:
    labels, logits = drawn(missing=0)
    labels[:, 1], labels[:, 2] = 0, np.nan
    images = Predictions(ids=[str(row) for row in range(len(labels))], logits=logits, labels=labels)
    chosen = finding_thresholds(images, NAMES)
    assert [one["threshold"] is None for one in chosen.values()] == [False, True, True]
    assert chosen["Mass"]["notes"] == ["No threshold: There are no positive images."]
    assert chosen["Nodule"]["notes"] == ["No threshold: There are no labeled images in 'val'."]
    figures = FindingFigures(labels, logits, thresholds=[one["threshold"] for one in chosen.values()])
    once = np.ones((len(labels), 1))
    assert figures(once)["auroc"][0] == pytest.approx(sk.roc_auc_score(labels[:, 0], logits[:, 0]), abs=1e-12)
    assert np.isnan(figures.per_finding(once)["auroc"][1:]).all()
    assert np.isnan(figures(once)["exact_match"][0])
    with pytest.raises(ValueError, match="metric must be one of"):
        FindingFigures(labels, logits, metrics=["accuracy"])
    with pytest.raises(MovlError, match="NaN or infinite"):
        FindingFigures(labels, np.full_like(logits, np.inf))


def test_cooccurrence_counts_pairs_of_known_labels() -> None:
    labels, _ = drawn()
    known = ~np.isnan(labels)
    found = cooccurrence(labels, known)
    expected = [[int(((labels[:, a] == 1) & (labels[:, b] == 1)).sum()) for b in range(3)] for a in range(3)]
    assert found == expected
