"""Tests of the intervals: an explicit resampling loop is the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from movl_monai.evaluation import bootstrap_intervals, bootstrap_weights, paired_bootstrap
from movl_monai.metrics import classification_metrics as metrics
from movl_monai.metrics.intervals import bootstrap_class_intervals
from movl_monai.metrics.weighted import METRICS
from tests.evaluation.data import random_logits

FUNCTIONS = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "auroc": lambda labels, logits: metrics.macro_auroc(labels, metrics.softmax(logits)),
    "auroc_weighted": lambda labels, logits: metrics.class_mean(
        metrics.auroc_per_class(labels, metrics.softmax(logits)), "AUROC", counts=np.bincount(labels)
    ),
    "average_precision": lambda labels, logits: metrics.macro_average_precision(labels, metrics.softmax(logits)),
    "average_precision_weighted": lambda labels, logits: metrics.class_mean(
        metrics.average_precision_per_class(labels, metrics.softmax(logits)), "AP", counts=np.bincount(labels)
    ),
    "quadratic_kappa": metrics.quadratic_kappa,
    "cross_entropy": metrics.cross_entropy,
    "brier": lambda labels, logits: metrics.brier_score(labels, metrics.softmax(logits)),
}
PER_CLASS = {
    "sensitivity": metrics.sensitivity_per_class,
    "specificity": metrics.specificity_per_class,
    "auroc": lambda labels, logits: metrics.auroc_per_class(labels, metrics.softmax(logits)),
    "average_precision": lambda labels, logits: metrics.average_precision_per_class(labels, metrics.softmax(logits)),
}


def resampled_rows(patients: list[str], *, rounds: int, seed: int) -> list[list[int]]:
    """Return the rows of each round as lists instead of weights, with the draws of the same generator."""
    names = list(dict.fromkeys(patients))
    rows = {name: [row for row, patient in enumerate(patients) if patient == name] for name in names}
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(len(names), size=len(names)) for _ in range(rounds)]
    return [[row for number in numbers for row in rows[names[number]]] for numbers in drawn]


@pytest.mark.parametrize("metric", list(FUNCTIONS))
def test_interval_equals_an_explicit_loop_over_resampled_patients(metric: str) -> None:
    labels, logits = random_logits(90, 3)
    patients = [f"p{index // 3}" for index in range(90)]
    values = [FUNCTIONS[metric](labels[rows], logits[rows]) for rows in resampled_rows(patients, rounds=30, seed=4)]
    found = bootstrap_intervals(labels, logits, patients=patients, metrics=[metric], rounds=30, seed=4)
    np.testing.assert_allclose(found["intervals"][metric], np.quantile(values, [0.025, 0.975]), atol=1e-9)
    assert (found["resampled"], found["num_resampled"], found["notes"]) == ("patients", 30, [])


def test_every_figure_has_an_oracle_here() -> None:
    assert set(FUNCTIONS) == set(METRICS)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_intervals_per_class_equal_an_explicit_loop_over_resampled_patients(num_classes: int) -> None:
    labels, logits = random_logits(90, num_classes)
    patients, names = [f"p{index // 3}" for index in range(90)], ["a", "b", "c"][:num_classes]
    loop = resampled_rows(patients, rounds=30, seed=4)
    found = bootstrap_class_intervals(labels, logits, class_names=names, patients=patients, rounds=30, seed=4)
    for figure, function in PER_CLASS.items():
        expected = np.quantile([function(labels[rows], logits[rows]) for rows in loop], [0.025, 0.975], axis=0)
        np.testing.assert_allclose([found["per_class"][name][figure] for name in names], expected.T, atol=1e-9)
    assert (found["resampled"], found["notes"]) == ("patients", [])


def test_a_missing_class_has_no_interval_of_its_own_and_the_others_have() -> None:
    labels, logits = random_logits(60, 3)
    rows = labels != 2
    found = bootstrap_class_intervals(labels[rows], logits[rows], class_names=["a", "b", "c"], rounds=30)["per_class"]
    assert {name for name, value in found["c"].items() if value is None} == {
        "sensitivity",
        "auroc",
        "average_precision",
    }
    assert None not in found["a"].values()


def test_figures_with_the_same_gaps_share_a_note() -> None:
    labels = np.array([0] * 30 + [1])
    notes = bootstrap_intervals(labels, np.random.default_rng(0).normal(size=(31, 2)), rounds=200)["notes"]
    shared = [note for note in notes if "leave out" in note]
    assert len(shared) == 1
    assert "balanced_accuracy, auroc" in shared[0]


def test_no_images_give_no_intervals_and_the_reason() -> None:
    found = bootstrap_intervals(np.zeros(0, dtype=int), np.zeros((0, 2)), rounds=10)
    assert set(found["intervals"].values()) == {None}
    assert "got 0" in found["notes"][-1]


@pytest.mark.parametrize(("rounds", "level"), [(0, 0.95), (10, 1.0)])
def test_impossible_rounds_and_levels_are_refused(rounds: int, level: float) -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1 and level in"):
        bootstrap_intervals(*random_logits(), rounds=rounds, level=level)


@pytest.mark.parametrize("metric", list(FUNCTIONS))
def test_paired_interval_equals_an_explicit_loop(metric: str) -> None:
    labels, a = random_logits(90, 3, skill=1.5)
    b = a + np.random.default_rng(8).normal(size=a.shape)
    patients = [f"p{index // 3}" for index in range(90)]
    function = FUNCTIONS[metric]
    loop = resampled_rows(patients, rounds=30, seed=4)
    values = [function(labels[rows], a[rows]) - function(labels[rows], b[rows]) for rows in loop]
    found = paired_bootstrap(labels, a, b, patients, metric, rounds=30, seed=4)
    np.testing.assert_allclose(found["interval"], np.quantile(values, [0.025, 0.975]), atol=1e-9)
    assert found["difference"] == pytest.approx(function(labels, a) - function(labels, b), abs=1e-12)


def test_paired_difference_of_a_network_with_itself_is_zero_for_sure() -> None:
    labels, logits = random_logits()
    found = paired_bootstrap(labels, logits, logits, None, "auroc", rounds=50)
    assert (found["difference"], found["interval"]) == (0.0, [0.0, 0.0])


def test_images_alike_within_patients_widen_the_interval() -> None:
    labels, logits = random_logits(100, 2)
    labels, logits = np.repeat(labels, 4), np.repeat(logits, 4, axis=0)
    patients = [f"p{index // 4}" for index in range(400)]

    def width(groups: list[str] | None) -> float:
        low, high = bootstrap_intervals(labels, logits, patients=groups, metrics=["accuracy"])["intervals"]["accuracy"]
        return high - low

    assert width(patients) == pytest.approx(2 * width(None), rel=0.2)  # four times fewer independent images


def test_accuracy_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        labels, logits = np.zeros(100, dtype=int), np.zeros((100, 2))
        logits[:, 1] = np.where(np.random.default_rng(seed).random(100) < 0.7, -1, 1)
        interval = bootstrap_intervals(labels, logits, metrics=["accuracy"], rounds=300)["intervals"]["accuracy"]
        covered += interval[0] <= 0.7 <= interval[1]
    assert 88 <= covered <= 99


def test_without_patients_images_are_resampled_and_a_note_says_so() -> None:
    found = bootstrap_intervals(*random_logits(), rounds=10)
    assert found["resampled"] == "images"
    assert "patients are not known" in found["notes"][0]


def test_image_without_a_patient_counts_as_a_patient_of_its_own() -> None:
    labels, logits = random_logits(6, 2)
    found = bootstrap_intervals(labels, logits, patients=["a", "a", None, None, "b", "b"], rounds=10)
    assert found["num_resampled"] == 4
    assert "2 images without a patient" in found["notes"][0]


def test_one_patient_gives_no_interval_and_the_reason() -> None:
    labels, logits = random_logits(6, 2)
    found = bootstrap_intervals(labels, logits, patients=["a"] * 6, rounds=10)
    assert set(found["intervals"].values()) == {None}
    assert "two or more patients, got 1" in found["notes"][0]


def test_figure_without_a_value_gives_no_interval() -> None:
    labels, logits = random_logits(30, 3)
    rows = labels != 2
    found = bootstrap_intervals(labels[rows], logits[rows], rounds=20)["intervals"]
    assert found["accuracy"] is not None
    assert found["balanced_accuracy"] is None
    assert found["auroc"] is None


def test_rounds_without_a_rare_class_are_counted() -> None:
    labels = np.array([0] * 30 + [1])
    logits = np.random.default_rng(0).normal(size=(31, 2))
    notes = bootstrap_intervals(labels, logits, metrics=["auroc"], rounds=200)["notes"]
    assert any("leaves out" in note and "of 200 resamples" in note for note in notes)


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    labels, logits = random_logits()
    first, again, other = (bootstrap_intervals(labels, logits, rounds=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["intervals"] != other["intervals"]


def test_weights_of_every_round_draw_as_many_patients_as_there_are() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(bootstrap_weights(groups, rounds=150, seed=0)), axis=1)
    assert weights.shape == (6, 150)
    assert (weights[[0, 2, 3]].sum(axis=0) == 3).all()
    np.testing.assert_array_equal(weights[0], weights[1])


def test_columns_of_other_lengths_are_refused() -> None:
    labels, logits = random_logits(6, 2)
    with pytest.raises(ValueError, match="one patient per image, got 2 for 6"):
        bootstrap_intervals(labels, logits, patients=["a", "b"])
    with pytest.raises(ValueError, match="same classes, got 2 and 3"):
        paired_bootstrap(labels, logits, np.zeros((6, 3)), None, "accuracy")
