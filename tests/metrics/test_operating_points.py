"""Tests of operating points: scikit-learn's ROC curve and its confusion matrices are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score, roc_curve

from movl_monai.evaluation import UndefinedMetricError
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.operating_points import choose_threshold, operating_figures, operating_points_report
from tests.evaluation.data import random_logits
from tests.metrics.data import drawn_from_softmax, images
from tests.metrics.test_intervals import resampled_rows


@settings(max_examples=150)
@given(seed=st.integers(0, 10_000), percent=st.integers(1, 100), metric=st.sampled_from(["sensitivity", "specificity"]))
def test_threshold_is_the_best_of_the_roc_curve_that_reaches_the_target(seed: int, percent: int, metric: str) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.permutation(np.arange(24) % 3 == 0)
    scores = generator.random(24).round(1)
    fpr, tpr, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    if metric == "sensitivity":  # counts, so that no rounding decides
        expected = thresholds[np.flatnonzero(np.rint(tpr * 8) * 100 >= percent * 8)[0]]
    else:
        expected = thresholds[np.flatnonzero(np.rint((1 - fpr) * 16) * 100 >= percent * 16)[-1]]
    found = choose_threshold(positive, scores, metric=metric, at_least=percent / 100)
    if np.isinf(expected):  # scikit-learn's way to call nothing positive
        assert found > scores.max()
    else:
        assert found == expected


def test_figures_equal_scikit_learn_with_sample_weight() -> None:
    generator = np.random.default_rng(0)
    positive, called = generator.random(60) < 0.4, generator.random(60) < 0.5
    weights = generator.integers(0, 4, size=(60, 10)).astype(float)
    found = operating_figures(positive, called, weights)
    for number, weight in enumerate(weights.T):
        expected = {
            "sensitivity": recall_score(positive, called, sample_weight=weight),
            "specificity": recall_score(~positive, ~called, sample_weight=weight),
            "ppv": precision_score(positive, called, sample_weight=weight),
            "npv": precision_score(~positive, ~called, sample_weight=weight),
        }
        assert {name: value[number] for name, value in found.items()} == pytest.approx(expected, abs=1e-9)


def test_figures_without_anything_to_divide_by_have_no_value() -> None:
    nothing = np.zeros(4, dtype=bool)
    found = operating_figures(nothing, nothing)
    assert np.isnan([found["sensitivity"][0], found["ppv"][0]]).all()
    assert (found["specificity"][0], found["npv"][0]) == (1, 1)


@pytest.mark.parametrize(
    ("positive", "metric", "target", "error", "message"),
    [
        ([0, 0], "sensitivity", 0.9, UndefinedMetricError, "no positive images"),
        ([1, 1], "specificity", 0.9, UndefinedMetricError, "no negative images"),
        ([0, 1], "recall", 0.9, ValueError, "must be 'sensitivity' or 'specificity'"),
        ([0, 1], "sensitivity", 0, ValueError, r"in \(0, 1\], got 'sensitivity' of 0"),
        ([0, 1, 1], "sensitivity", 0.9, ValueError, r"got \(3,\) and \(2,\)"),
    ],
)
def test_bad_input_is_refused(positive: list, metric: str, target: float, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        choose_threshold(positive, [0.1, 0.2], metric=metric, at_least=target)
    with pytest.raises(ValueError, match="without NaN"):
        choose_threshold([0, 1], [0.1, np.nan], metric="sensitivity", at_least=0.9)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_report_applies_thresholds_of_val_with_intervals_of_a_loop(num_classes: int) -> None:
    labels, logits = drawn_from_softmax(240, num_classes)
    names = ["a", "b", "c"][:num_classes]
    sections = {"val": images(labels[:120], logits[:120]), "id": images(labels[120:], logits[120:], patients=40)}
    report = operating_points_report(sections, class_names=names, rounds=30, seed=4)
    assert [point["class"] for point in report["points"]] == [name for name in names[num_classes == 2 :] for _ in "12"]
    loop = resampled_rows(sections["id"].patients, rounds=30, seed=4)
    for point in report["points"]:
        index, metric = names.index(point["class"]), point["target"]["metric"]
        positive, scores = labels[120:] == index, softmax(logits[120:])[:, index]
        called = scores >= point["threshold"]
        assert point["sections"]["val"][metric] >= 0.95
        entry = point["sections"]["id"]
        assert (entry["n_positive"], entry["n_negative"]) == (positive.sum(), (~positive).sum())
        values = [operating_figures(positive[rows], called[rows]) for rows in loop]
        for name, value in operating_figures(positive, called).items():
            assert entry[name] == pytest.approx(value[0], abs=1e-12)
            expected = np.quantile([one[name][0] for one in values], [0.025, 0.975])
            np.testing.assert_allclose(entry["intervals"][name], expected, atol=1e-9)


def test_report_of_a_section_of_one_class_has_gaps_and_the_reason() -> None:
    labels, logits = drawn_from_softmax(400, 2)
    only = np.flatnonzero(labels == 0)[:50]
    sections = {"val": images(labels, logits), "ood:b": images(labels[only], logits[only])}
    report = operating_points_report(sections, class_names=["no", "yes"], rounds=20)
    point = report["points"][0]
    entry = point["sections"]["ood:b"]
    assert entry["sensitivity"] is None
    assert entry["intervals"]["sensitivity"] is None
    assert entry["intervals"]["specificity"] is not None
    assert any("ood:b: no value for sensitivity" in note for note in point["notes"])


def test_report_without_positives_on_val_has_no_threshold_and_the_reason() -> None:
    labels, logits = random_logits(40, 3)
    rows = labels != 2
    report = operating_points_report({"val": images(labels[rows], logits[rows])}, class_names=["a", "b", "c"], rounds=5)
    missing = [point for point in report["points"] if point["threshold"] is None]
    assert [(point["class"], point["target"]["metric"]) for point in missing] == [("c", "sensitivity")]
    assert missing[0]["notes"] == ["No threshold: There are no positive images."]
    assert missing[0]["sections"] == {}


def test_report_says_when_val_is_too_small_for_the_target() -> None:
    labels, logits = random_logits(30, 2)
    report = operating_points_report({"val": images(labels, logits)}, class_names=["no", "yes"], rounds=5)
    assert "chosen on 15 images, which cannot tell 0.95 from 1; 20 could" in report["points"][0]["notes"][0]


def test_report_without_val_has_no_points_and_the_reason() -> None:
    report = operating_points_report({"id": images(*random_logits(30, 2))}, class_names=["no", "yes"])
    assert report["points"] == []
    assert "no labeled images in 'val'" in report["notes"][0]
