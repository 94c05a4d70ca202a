"""Tests of calibration: a fine grid of temperatures and loops over images and bins are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from movl_monai.evaluation import NonFiniteLogitsError, Predictions, UndefinedMetricError
from movl_monai.metrics.calibration import calibration_report, fit_temperature, reliability_bins
from movl_monai.metrics.classification_metrics import accuracy, cross_entropy, expected_calibration_error, softmax
from tests.evaluation.data import random_logits
from tests.metrics.data import drawn_from_softmax, images


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), num_classes=st.integers(2, 5), scale=st.sampled_from([0.01, 0.3, 1.0, 5.0, 300.0]))
def test_no_temperature_on_a_grid_is_better_and_the_cross_entropy_never_rises(
    seed: int, num_classes: int, scale: float
) -> None:
    labels, logits = random_logits(40, num_classes, seed=seed)
    logits = logits * scale
    fit = fit_temperature(labels, logits)
    found = cross_entropy(labels, logits / fit.temperature)
    grid = [cross_entropy(labels, logits / temperature) for temperature in np.geomspace(0.05, 20, 80)]
    assert found <= min(grid) + 1e-9
    assert found <= cross_entropy(labels, logits) + 1e-12


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_logits_of_a_calibrated_network_times_a_factor_give_that_factor_back(factor: float) -> None:
    labels, logits = drawn_from_softmax(20_000, 3)
    assert fit_temperature(labels, logits * factor).temperature == pytest.approx(factor, rel=0.03)


def test_scaling_the_logits_scales_the_temperature() -> None:
    labels, logits = random_logits(80, 3)
    one, two = (fit_temperature(labels, logits * factor).temperature for factor in (1.0, 3.0))
    assert two == pytest.approx(3 * one, rel=1e-9)


def test_separable_images_leave_the_logits_as_they_are_and_say_so() -> None:
    labels = np.array([0, 1] * 40)
    fit = fit_temperature(labels, np.eye(2)[labels] * 0.1)
    assert fit.temperature == 1.0
    assert "right on every image" in fit.notes[0]


def test_equal_logits_leave_the_temperature_at_one() -> None:
    fit = fit_temperature([0, 1] * 40, np.ones((80, 2)))
    assert fit.temperature == 1.0
    assert "All logits of an image are equal" in fit.notes[0]


@pytest.mark.parametrize(("factor", "bound", "word"), [(1e-3, 0.05, "lower bound 0.05"), (1e3, 20.0, "upper bound 20")])
def test_temperature_outside_the_bounds_is_the_bound_and_says_so(factor: float, bound: float, word: str) -> None:
    labels, logits = drawn_from_softmax(200, 3)
    fit = fit_temperature(labels, logits * factor)
    assert fit.temperature == bound
    assert word in fit.notes[0]


def test_logits_worse_than_chance_are_flattened_to_the_upper_bound() -> None:
    labels = np.array([0, 1] * 40)
    fit = fit_temperature(labels, np.eye(2)[1 - labels])
    assert fit.temperature == 20.0
    assert "next to nothing" in fit.notes[0]


def test_few_images_and_missing_classes_are_noted() -> None:
    notes = fit_temperature([0, 1, 0], [[1.0, 0, 0], [2, 1, 0], [0, 0, 1]]).notes
    assert "3 images only" in notes[-2]
    assert "1 of 3 classes have no images" in notes[-1]


def test_bad_input_of_a_fit_is_refused() -> None:
    with pytest.raises(UndefinedMetricError, match="needs labeled images, got none"):
        fit_temperature(np.zeros(0, dtype=int), np.zeros((0, 2)))
    with pytest.raises(NonFiniteLogitsError, match="1 of 2 images"):
        fit_temperature([0, 1], [[0.0, np.nan], [1.0, 0.0]])
    with pytest.raises(ValueError, match="bounds must be 0 < low <= 1 <= high, got 2 and 3"):
        fit_temperature([0, 1], [[0.0, 1.0], [1.0, 0.0]], bounds=(2, 3))


@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_bins_equal_a_loop_and_add_up_to_the_calibration_error(num_bins: int) -> None:
    labels, logits = random_logits(200, 4)
    probabilities = softmax(logits)
    bins = reliability_bins(labels, probabilities, num_bins=num_bins)
    for entry in bins:
        rows = [row for row in range(200) if entry["low"] < probabilities[row].max() <= entry["high"]]
        assert entry["n"] == len(rows)
        if rows:
            assert entry["confidence"] == pytest.approx(np.mean([probabilities[row].max() for row in rows]), abs=1e-12)
            assert entry["accuracy"] == pytest.approx(accuracy(labels[rows], probabilities[rows]), abs=1e-12)
        else:
            assert (entry["confidence"], entry["accuracy"]) == (None, None)
    total = sum(entry["n"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins if entry["n"]) / 200
    assert total == pytest.approx(expected_calibration_error(labels, probabilities, num_bins=num_bins), abs=1e-12)


def test_report_says_where_the_temperature_helps_and_where_it_hurts() -> None:
    labels, logits = drawn_from_softmax(600, 3)
    shifted_labels, shifted = drawn_from_softmax(600, 3, seed=1)
    # too sure on val and id, too unsure at the other site: one temperature cannot serve both
    parts = {"val": (labels[:300], logits[:300] * 3), "id": (labels[300:], logits[300:] * 3)}
    sections = {name: images(*part, patients=100) for name, part in parts.items()}
    sections["ood:b"] = images(shifted_labels, shifted * 0.5, patients=200)
    report = calibration_report(sections, rounds=100)
    assert report["fitted_on"] == {"split": "val", "n": 300}
    assert report["helps"] == {"val": True, "id": True, "ood:b": False}
    assert "Here it does in: ood:b (beyond chance in: ood:b)" in report["warning"]
    entry = report["sections"]["id"]
    scaled = parts["id"][1] / report["temperature"]
    assert entry["before"]["cross_entropy"] == pytest.approx(log_loss(labels[300:], softmax(parts["id"][1])), abs=1e-9)
    assert entry["after"]["cross_entropy"] == pytest.approx(log_loss(labels[300:], softmax(scaled)), abs=1e-9)
    assert entry["after"]["ece"] < entry["before"]["ece"]
    assert entry["reliability"]["after"] == reliability_bins(labels[300:], softmax(scaled))
    for name, change in entry["change"].items():
        assert change["difference"] == pytest.approx(entry["after"][name] - entry["before"][name], abs=1e-12)
        assert change["interval"][0] < change["difference"] < change["interval"][1] < 0


def test_report_without_images_to_fit_on_has_no_temperature_and_the_reason() -> None:
    labels, logits = random_logits(30, 3)
    unlabeled = Predictions(ids=["a"], logits=[[1.0, 0, 0]])
    report = calibration_report({"val": unlabeled, "id": images(labels, logits)}, rounds=10)
    assert (report["temperature"], report["helps"]) == (None, {})
    assert report["fitted_on"] == {"split": "val", "n": 0}
    assert report["sections"]["id"]["after"] is None
    assert "no labeled images in 'val'" in report["notes"][0]
    assert list(report["sections"]) == ["id"]


def test_temperature_of_one_helps_nowhere_and_hurts_nowhere() -> None:
    labels = np.array([0, 1] * 30)
    report = calibration_report({"val": images(labels, np.eye(2)[labels] * 3)}, rounds=10)
    assert report["helps"] == {"val": False}
    assert "in none of the sections here" in report["warning"]
