"""Tests of abstention: loops over thresholds and resampled rows are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movl_monai.evaluation import Predictions, UndefinedMetricError, bootstrap_weights
from movl_monai.metrics.classification_metrics import accuracy, softmax
from movl_monai.metrics.selective import RiskCoverage, abstention_report, abstention_threshold
from tests.evaluation.data import random_logits
from tests.metrics.data import drawn_from_softmax, images


def curve_by_loop(labels: np.ndarray, logits: np.ndarray) -> tuple[list[float], list[float], float]:
    confidence = softmax(logits).max(axis=1)
    wrong = logits.argmax(axis=1) != labels

    def risk(threshold: float) -> float:
        return float(np.mean([error for error, own in zip(wrong, confidence, strict=True) if own >= threshold]))

    thresholds = sorted(set(confidence.tolist()), reverse=True)
    coverage = [float(np.mean([own >= threshold for own in confidence])) for threshold in thresholds]
    return coverage, [risk(threshold) for threshold in thresholds], float(np.mean([risk(own) for own in confidence]))


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 4))
def test_curve_and_area_equal_a_loop_also_with_ties(seed: int, num_classes: int) -> None:
    labels, logits = random_logits(40, num_classes, seed=seed)
    curve = RiskCoverage(labels, logits)
    coverage, risk, area = curve_by_loop(labels, logits)
    np.testing.assert_allclose(curve.coverage, coverage, atol=1e-9)
    np.testing.assert_allclose(curve.risk, risk, atol=1e-9)
    assert curve.aurc == pytest.approx(area, abs=1e-9)


def test_order_of_images_changes_nothing() -> None:
    labels, logits = random_logits(40, 3)
    order = np.random.default_rng(0).permutation(40)
    assert RiskCoverage(labels, logits).aurc == pytest.approx(
        RiskCoverage(labels[order], logits[order]).aurc, abs=1e-15
    )


def test_answering_everything_has_the_risk_of_the_error_rate() -> None:
    labels, logits = random_logits(40, 3)
    curve = RiskCoverage(labels, logits)
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(1 - accuracy(labels, logits), abs=1e-12)


def test_errors_that_all_come_last_have_no_excess_area() -> None:
    labels = np.array([0] * 8)
    logits = np.stack([np.arange(8) - 2.5, np.zeros(8)], axis=1) * np.array([4, 1])  # the three least likely are wrong
    logits[:3] *= 0.01  # and of the lowest confidence
    curve = RiskCoverage(labels, logits)
    assert curve.risk[-1] == 3 / 8
    assert curve.excess_aurc == pytest.approx(0, abs=1e-12)
    assert RiskCoverage(labels, -logits).excess_aurc > 0.1


def test_weighted_area_and_threshold_equal_a_loop_over_resampled_rows() -> None:
    labels, logits = random_logits(30, 3)
    curve = RiskCoverage(labels, logits)
    (weights,) = bootstrap_weights(np.arange(30), rounds=20, seed=3)
    at = curve.at(0.6, weights)
    for number, column in enumerate(weights.T.astype(int)):
        rows = np.repeat(np.arange(30), column)
        assert curve.weighted_aurc(weights)[number] == pytest.approx(
            curve_by_loop(labels[rows], logits[rows])[2], abs=1e-9
        )
        answered = [row for row in rows if softmax(logits)[row].max() >= 0.6]
        assert at["coverage"][number] == pytest.approx(len(answered) / 30, abs=1e-12)
        assert at["risk"][number] == pytest.approx(1 - accuracy(labels[answered], logits[answered]), abs=1e-12)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), target=st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_threshold_answers_as_many_images_as_possible_at_that_risk(seed: int, target: float) -> None:
    labels, logits = random_logits(40, 3, seed=seed)
    coverage, risk, _ = curve_by_loop(labels, logits)
    allowed = [share for share, own in zip(coverage, risk, strict=True) if own <= target + 1e-12]
    if allowed:
        threshold = abstention_threshold(labels, logits, target_risk=target)
        answered = softmax(logits).max(axis=1) >= threshold
        assert answered.mean() == pytest.approx(max(allowed), abs=1e-12)
    else:
        with pytest.raises(UndefinedMetricError, match="No confidence gives a risk of"):
            abstention_threshold(labels, logits, target_risk=target)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"target_risk must be in \[0, 1\), got 1"):
        abstention_threshold([0], [[1.0, 0.0]], target_risk=1)
    with pytest.raises(UndefinedMetricError, match="no labeled images"):
        RiskCoverage(np.zeros(0, dtype=int), np.zeros((0, 2)))


def test_report_applies_the_threshold_of_val_elsewhere() -> None:
    labels, logits = drawn_from_softmax(2000, 3)
    sections = {"val": images(labels[:1000], logits[:1000]), "id": images(labels[1000:], logits[1000:], patients=300)}
    report = abstention_report(sections, target_risk=0.05, rounds=100)
    assert report["threshold"] == abstention_threshold(labels[:1000], logits[:1000], target_risk=0.05)
    assert report["chosen_on"] == {"split": "val", "n": 1000}
    assert report["sections"]["val"]["at_threshold"]["risk"] <= 0.05
    entry = report["sections"]["id"]
    assert len(entry["coverage"]) == len(entry["risk"]) == 200
    assert entry["coverage"][-1] == 1
    low, high = entry["at_threshold"]["intervals"]["risk"]
    assert low < entry["at_threshold"]["risk"] < high
    assert entry["aurc_interval"][0] < entry["aurc"] < entry["aurc_interval"][1]
    assert entry["aurc"] < entry["risk"][-1]


def test_report_without_a_threshold_still_has_curves_and_says_why() -> None:
    labels = np.zeros(20, dtype=int)
    wrong = images(labels, np.tile([0.0, 1.0], (20, 1)))
    report = abstention_report({"val": wrong, "id": wrong}, rounds=10)
    assert report["threshold"] is None
    assert "No threshold from 'val': No confidence gives" in report["notes"][0]
    assert report["sections"]["id"]["at_threshold"] is None
    empty = abstention_report({"id": wrong, "ood:b": Predictions(ids=["a"], logits=[[0.0, 1.0]])}, rounds=10)
    assert "ood:b: no labeled images." in empty["notes"]
    assert empty["chosen_on"] == {"split": "val", "n": 0}
    assert list(empty["sections"]) == ["id"]
