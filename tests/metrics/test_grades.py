"""Tests of the figures of grades: scikit-learn and written loops are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from movl_monai.metrics.calibration import calibration_report
from movl_monai.metrics.classification import section_figures
from movl_monai.metrics.classification_metrics import median_grade, softmax
from movl_monai.metrics.conformal import RANGE_METHODS, conformal_report, conformal_scores, fit_conformal
from movl_monai.metrics.declared import CLASS_FIGURES, ORDINAL_FIGURES
from movl_monai.metrics.grades import grade_figures
from movl_monai.metrics.operating_points import operating_points_report
from movl_monai.metrics.paired import mcnemar, paired_figures
from movl_monai.metrics.selective import RiskCoverage
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.metrics.weighted import WeightedFigures
from tests.evaluation.data import random_logits

NAMES = ["0", "1", "2", "3", "4"]


def graded(count: int = 200, *, grades: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and skewed logits, whose median and most probable grade often differ."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, grades, count)
    logits = draw.gumbel(size=(count, grades)) * 1.5
    logits[np.arange(count), labels] += 1
    return labels, logits


def median_by_loop(probabilities: np.ndarray) -> list[int]:
    found = []
    for row in probabilities:
        total, grade = 0.0, 0
        while (total := total + row[grade]) < 0.5 - 1e-9:
            grade += 1
        found.append(grade)
    return found


def test_median_grade_minimises_the_expected_distance() -> None:
    _, logits = graded(500)
    probabilities = softmax(logits)
    median = median_grade(probabilities)
    assert median.tolist() == median_by_loop(probabilities)
    assert (median != probabilities.argmax(axis=1)).mean() > 0.1  # else nothing is shown
    distance = np.abs(np.arange(5)[:, None] - np.arange(5))
    risks = probabilities @ distance
    np.testing.assert_allclose(risks[np.arange(500), median], risks.min(axis=1), atol=1e-9)


@pytest.mark.parametrize(("row", "expected"), [([0.5, 0.5], 0), ([1 / 6] * 6, 2), ([0.1] * 10, 4), ([0, 0, 1], 2)])
def test_median_of_ties_is_the_lower_grade(row: list[float], expected: int) -> None:
    assert median_grade([row]).tolist() == [expected]
    assert median_grade(softmax(np.log(np.maximum([row], 1e-300)))).tolist() == [expected]


@pytest.mark.parametrize("grades", [2, 3, 5])
def test_weighted_figures_of_grades_equal_scikit_learn(grades: int) -> None:
    labels, logits = random_logits(120, grades)
    predicted = median_by_loop(softmax(logits))
    weights = np.random.default_rng(1).integers(0, 4, size=(120, 20)).astype(float)
    found = WeightedFigures(labels, logits, figures=ORDINAL_FIGURES)(weights)
    distance = np.abs(labels - predicted)
    expected = {
        "quadratic_kappa": [
            sk.cohen_kappa_score(labels, predicted, weights="quadratic", sample_weight=w) for w in weights.T
        ],
        "mean_absolute_error": [sk.mean_absolute_error(labels, predicted, sample_weight=w) for w in weights.T],
        "accuracy": [sk.accuracy_score(labels, predicted, sample_weight=w) for w in weights.T],
        "balanced_accuracy": [sk.balanced_accuracy_score(labels, predicted, sample_weight=w) for w in weights.T],
        "within_one": [np.average(distance <= 1, weights=w) for w in weights.T],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)
    whole, _ = section_figures(labels, logits, class_names=NAMES[:grades], figures=ORDINAL_FIGURES)
    once = WeightedFigures(labels, logits, figures=ORDINAL_FIGURES)(np.ones((120, 1)))
    for name, values in once.items():
        np.testing.assert_allclose(whole[name], values[0], atol=1e-9, err_msg=name)  # type: ignore[literal-required]


def test_figures_of_grade_k_or_more_equal_scikit_learn() -> None:
    labels, logits = graded()
    predicted = np.array(median_by_loop(softmax(logits)))
    patients = [f"p{number // 2}" for number in range(len(labels))]
    found = grade_figures(labels, logits, predicted, class_names=NAMES, patients=patients, rounds=50)
    assert list(found["at_least"]) == NAMES[1:]
    for grade in range(1, 5):
        entry, positive = found["at_least"][str(grade)], labels >= grade
        assert entry["n"] == positive.sum()
        assert entry["sensitivity"] == pytest.approx(sk.recall_score(positive, predicted >= grade), abs=1e-9)
        assert entry["specificity"] == pytest.approx(sk.recall_score(~positive, predicted < grade), abs=1e-9)
        score = softmax(logits)[:, grade:].sum(axis=1)
        assert entry["auroc"] == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-9)
        low, high = entry["intervals"]["auroc"] or (1, 0)
        assert low <= entry["auroc"] <= high
    for distance, count in found["distances"].items():
        assert count == sum(int(b) - int(a) == int(distance) for a, b in zip(labels, predicted, strict=True))


def test_confidence_is_that_of_the_median_and_a_temperature_moves_no_grade() -> None:
    labels, logits = graded()
    predicted = np.array(median_by_loop(softmax(logits)))
    curve = RiskCoverage(labels, logits, decide=ORDINAL_FIGURES.decide)
    np.testing.assert_array_equal(curve.wrong, predicted != labels)
    np.testing.assert_array_equal(curve.confidence, softmax(logits)[np.arange(200), predicted])
    images = Predictions(ids=[str(n) for n in range(200)], logits=3 * logits, labels=labels)
    found = calibration_report({"val": images}, decide=ORDINAL_FIGURES.decide, rounds=10)
    bins = found["sections"]["val"]["reliability"]
    for one in (bins["before"], bins["after"]):
        right = sum(part["n"] * part["accuracy"] for part in one or () if part["accuracy"] is not None)
        assert right == pytest.approx((ORDINAL_FIGURES.decide(3 * logits) == labels).sum())


def test_paired_figures_and_mcnemar_judge_the_median() -> None:
    labels, one = graded(seed=1)
    _, two = graded(seed=2)
    found = paired_figures(labels, one, two, figures=ORDINAL_FIGURES, rounds=20)["metrics"]["mean_absolute_error"]
    errors = [np.abs(labels - median_by_loop(softmax(logits))).mean() for logits in (one, two)]
    assert (found["a"], found["b"]) == pytest.approx(tuple(errors), abs=1e-9)
    right = [labels == median_by_loop(softmax(logits)) for logits in (one, two)]
    assert mcnemar(labels, one, two, decide=ORDINAL_FIGURES.decide)["only_a"] == (right[0] & ~right[1]).sum()


def ranges_by_loop(row: np.ndarray, threshold: float) -> set[int]:
    """Grow a range from the median by the likelier neighbour while its probability stays within the threshold."""
    low = high = median_by_loop(row[None])[0]
    while (low, high) != (0, len(row) - 1):
        below = row[low - 1] if low else -1
        above = row[high + 1] if high + 1 < len(row) else -1
        wider = (low, high + 1) if above >= below else (low - 1, high)
        total = row[wider[0] : wider[1] + 1].sum()
        if (1.0 if wider == (0, len(row) - 1) else total) > threshold:
            break
        low, high = wider
    return set(range(low, high + 1))


def test_ranges_equal_a_written_loop_and_have_no_gaps() -> None:
    labels, logits = graded(400)
    fit = fit_conformal(labels[:200], logits[:200], alpha=0.2, method="ordinal_aps")
    sets = fit.sets(logits[200:])
    expected = [ranges_by_loop(row, fit.thresholds[0]) for row in softmax(logits[200:])]
    assert [set(np.flatnonzero(row)) for row in sets] == expected
    per_class = fit_conformal(labels[:200], logits[:200], alpha=0.3, method="ordinal_aps", per_class=True)
    for row in per_class.sets(logits[200:]):
        inside = np.flatnonzero(row)
        assert len(inside) == inside[-1] - inside[0] + 1
    scores = conformal_scores(softmax(logits), method="ordinal_aps")
    assert (scores.max(axis=1) == 1).all()


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_ranges_cover_new_images_as_promised(method: str) -> None:
    alpha, hits, sizes = 0.2, [], []
    for seed in range(60):
        labels, logits = graded(300, grades=4, seed=seed)
        images = Predictions(
            ids=[""] * 300, logits=logits, labels=labels, splits=["calibration"] * 100 + ["test"] * 200
        )
        parts = {"calibration": images.take(range(100)), "id": images.take(range(100, 300))}
        found = conformal_report(parts, class_names=NAMES[:4], alpha=alpha, methods=[method])["methods"][method]
        hits.append(found["sections"]["id"]["coverage"])
        sizes.append(found["sections"]["id"]["mean_size"])
    # standard error of the mean: 60 repetitions of 200 test and 100 calibration images
    assert np.mean(hits) > 1 - alpha - 3 * np.std(hits) / np.sqrt(60)
    assert np.mean(sizes) < 4


def test_operating_points_of_grades_are_of_k_or_more() -> None:
    labels, logits = graded()
    images = Predictions(ids=[""] * 200, logits=logits, labels=labels)
    points = operating_points_report(
        {"val": images}, class_names=NAMES, targets=[("sensitivity", 0.9)], ordered=True, rounds=10
    )["points"]
    assert [point["class"] for point in points] == [f"{grade} or more" for grade in range(1, 5)]
    for grade, point in enumerate(points, start=1):
        called = softmax(logits)[:, grade:].sum(axis=1) >= point["threshold"]
        assert point["sections"]["val"]["sensitivity"] == pytest.approx(sk.recall_score(labels >= grade, called))
        assert point["sections"]["val"]["sensitivity"] >= 0.9


def test_figures_of_a_classification_judge_the_most_probable_class() -> None:
    labels, logits = graded()
    most = logits.argmax(axis=1)
    assert CLASS_FIGURES.decide(logits).tolist() == most.tolist()
    found, _ = section_figures(labels, logits, class_names=NAMES)
    assert found["quadratic_kappa"] == pytest.approx(sk.cohen_kappa_score(labels, most, weights="quadratic"), abs=1e-9)
    assert "within_one" not in found
