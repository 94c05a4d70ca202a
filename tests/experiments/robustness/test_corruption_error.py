"""Corruption errors against loops of the paper's formulas, and undefined ratios."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from movl_monai.experiments.robustness import (
    CLEAN,
    Cell,
    corruption_errors,
    mean_over,
    relative_corruption_errors,
    robustness_figures,
)
from movl_monai.metrics.classification_metrics import median_grade, softmax
from movl_monai.metrics.declared import ORDINAL_FIGURES
from movl_monai.metrics.intervals import PatientBootstrap

CELLS: list[Cell] = [
    CLEAN,
    ("contrast", 1),
    ("contrast", 3),
    ("contrast", 5),
    ("inversion", 1),
    ("gamma", 2),
    ("gamma", 4),
]
RUNS = ("probe", "joint", "full")


def logits_of_runs(
    *, seed: int = 0, count: int = 60, num_classes: int = 2
) -> tuple[dict[str, dict[Cell, np.ndarray]], np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    truth = np.eye(num_classes)[labels]

    def draw(cell: Cell) -> np.ndarray:
        return 2 * truth / (1 + cell[1]) + generator.normal(size=truth.shape)

    return {run: {cell: draw(cell) for cell in CELLS} for run in RUNS}, labels


def error(labels: np.ndarray, logits: np.ndarray) -> float:
    return 1 - balanced_accuracy_score(labels, logits.argmax(axis=1))


def loop_mce(errors: dict[str, dict[Cell, float]], run: str, baseline: str, *, relative: bool) -> float:
    ratios = []
    for name in ("contrast", "inversion", "gamma"):
        top = bottom = 0.0
        for cell in CELLS:
            if cell[0] == name:
                top += errors[run][cell] - (errors[run][CLEAN] if relative else 0)
                bottom += errors[baseline][cell] - (errors[baseline][CLEAN] if relative else 0)
        ratios.append(top / bottom)
    return sum(ratios) / len(ratios)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_all_figures_equal_scikit_learn_and_a_loop_over_the_formulas(seed: int, num_classes: int) -> None:
    logits, labels = logits_of_runs(seed=seed, num_classes=num_classes)
    found = robustness_figures(logits, labels, baseline="probe", rounds=20)
    errors = {run: {cell: error(labels, logits[run][cell]) for cell in CELLS} for run in RUNS}
    for run, part in found["runs"].items():
        cells = {CLEAN: part["clean"]} | {
            (name, int(s)): cell for name, severities in part["corruptions"].items() for s, cell in severities.items()
        }
        assert list(cells) == CELLS
        for cell, figures in cells.items():
            assert figures["balanced_accuracy"]["value"] == pytest.approx(1 - errors[run][cell], abs=1e-12)
            scores = softmax(logits[run][cell])
            oracle = roc_auc_score(labels, scores[:, 1] if num_classes == 2 else scores, multi_class="ovr")
            assert figures["auroc"]["value"] == pytest.approx(oracle, abs=1e-9)
        mce, relative = (part[key]["mean"]["value"] for key in ("corruption_error", "relative_corruption_error"))
        assert mce == pytest.approx(loop_mce(errors, run, "probe", relative=False), abs=1e-9)
        assert relative == pytest.approx(loop_mce(errors, run, "probe", relative=True), abs=1e-9)
        names = ("contrast", "inversion", "gamma")
        means = [np.mean([1 - errors[run][cell] for cell in CELLS if cell[0] == name]) for name in names]
        assert part["corrupted"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(means), abs=1e-12)
    assert found["undefined"] == {"corruption_error": [], "relative_corruption_error": []}


def test_the_baseline_is_one_everywhere_with_an_interval_of_one() -> None:
    logits, labels = logits_of_runs()
    part = robustness_figures(logits, labels, baseline="joint", rounds=50)["runs"]["joint"]
    for key in ("corruption_error", "relative_corruption_error"):
        assert part[key]["mean"]["value"] == pytest.approx(1)
        assert {figure["value"] for figure in part[key]["per_corruption"].values()} == {1.0}
    assert part["corruption_error"]["mean"]["interval"] == [1.0, 1.0]
    assert part["difference"]["balanced_accuracy"] == {"value": 0.0, "interval": [0.0, 0.0]}


def test_intervals_are_percentiles_over_the_same_draws_of_patients_as_a_loop_has() -> None:
    logits, labels = logits_of_runs(count=40)
    patients = [str(number // 2) for number in range(40)]
    found = robustness_figures(logits, labels, baseline="probe", patients=patients, rounds=200, seed=3)
    bootstrap = PatientBootstrap(40, patients, rounds=200, seed=3)
    columns = []

    def keep(weights: np.ndarray) -> dict[str, np.ndarray]:
        columns.append(weights)
        return {"none": weights.sum(axis=0)}

    bootstrap.resample(keep)
    ratios, differences = [], []
    for weight in np.concatenate(columns, axis=1).T.astype(int):
        drawn = np.repeat(np.arange(40), weight)
        errors = {run: {cell: error(labels[drawn], logits[run][cell][drawn]) for cell in CELLS} for run in RUNS}
        ratios.append(loop_mce(errors, "full", "probe", relative=False))
        mean = {
            run: np.mean(
                [np.mean([errors[run][c] for c in CELLS if c[0] == n]) for n in ("contrast", "inversion", "gamma")]
            )
            for run in RUNS
        }
        differences.append(mean["probe"] - mean["full"])
    part = found["runs"]["full"]
    assert part["corruption_error"]["mean"]["interval"] == pytest.approx(list(np.quantile(ratios, [0.025, 0.975])))
    interval = part["difference"]["balanced_accuracy"]["interval"]
    assert interval == pytest.approx(list(np.quantile(differences, [0.025, 0.975])))
    assert (found["resampling"]["resampled"], found["resampling"]["num_resampled"]) == ("patients", 20)


def test_a_corruption_without_error_of_the_baseline_has_no_value_and_is_named_and_left_out_for_all() -> None:
    logits, labels = logits_of_runs()
    logits["probe"]["inversion", 1] = 5 * np.eye(2)[labels]  # right everywhere
    found = robustness_figures(logits, labels, baseline="probe", rounds=30)
    assert found["undefined"] == {"corruption_error": ["inversion"], "relative_corruption_error": ["inversion"]}
    for run in RUNS:
        errors = found["runs"][run]["corruption_error"]
        assert errors["per_corruption"]["inversion"] == {"value": None, "interval": None}
        others = [errors["per_corruption"][name]["value"] for name in ("contrast", "gamma")]
        assert errors["mean"]["value"] == pytest.approx(np.mean(others))
    assert any(
        "probe has no error under inversion: the corruption error has no value" in note for note in found["notes"]
    )
    assert any("probe is not worse under inversion" in note for note in found["notes"])


def test_a_baseline_without_any_error_gives_no_mean_at_all() -> None:
    logits, labels = logits_of_runs()
    logits["probe"] = {cell: 5 * np.eye(2)[labels] for cell in CELLS}
    found = robustness_figures(logits, labels, baseline="probe", rounds=30)
    for run in RUNS:
        assert found["runs"][run]["corruption_error"]["mean"] == {"value": None, "interval": None}
    assert found["runs"]["full"]["corrupted"]["balanced_accuracy"]["value"] < 1


def test_a_ratio_has_no_interval_where_the_baseline_often_loses_nothing() -> None:
    logits, labels = logits_of_runs(count=40)
    right = 5 * np.eye(2)[labels]
    wrong = right.copy()
    wrong[0] = wrong[0, ::-1]  # one error, which a third of the rounds do not draw
    logits["probe"] = {cell: right if cell == CLEAN else wrong for cell in CELLS}
    found = robustness_figures(logits, labels, baseline="probe", rounds=300)
    for key in ("corruption_error", "relative_corruption_error"):
        mean = found["runs"]["full"][key]["mean"]
        assert mean["value"] is not None
        assert mean["interval"] is None
    assert found["runs"]["full"]["corrupted"]["auroc"]["interval"] is not None
    assert any("intervals are not given: " in note for note in found["notes"])


def test_without_patients_and_with_one_patient_the_notes_say_so() -> None:
    logits, labels = logits_of_runs(count=8)
    unknown = robustness_figures(logits, labels, baseline="probe", rounds=10)
    assert unknown["resampling"]["resampled"] == "images"
    assert any("patients are not known" in note for note in unknown["notes"])
    one = robustness_figures(logits, labels, baseline="probe", patients=["a"] * 8, rounds=10)
    assert one["runs"]["full"]["clean"]["auroc"]["interval"] is None
    assert any("No intervals" in note for note in one["notes"])


values = st.lists(st.floats(0, 1), min_size=1, max_size=5)


@settings(max_examples=60)
@given(values, st.data())
def test_corruption_errors_scale_with_the_errors(baseline: list[float], data: st.DataObject) -> None:
    own = data.draw(st.lists(st.floats(0, 1), min_size=len(baseline), max_size=len(baseline)))
    errors, theirs = {"jpeg": np.array(own)}, {"jpeg": np.array(baseline)}
    found = corruption_errors(errors, theirs)["jpeg"]
    if sum(baseline) <= 1e-9:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(sum(own) / sum(baseline))
        assert corruption_errors({"jpeg": errors["jpeg"] / 2}, theirs)["jpeg"] == pytest.approx(found / 2)


def test_a_baseline_that_gains_from_a_corruption_has_no_relative_error() -> None:
    found = relative_corruption_errors(
        {"a": np.array([0.3]), "b": np.array([0.3])},
        {"a": np.array([0.1]), "b": np.array([0.2])},
        clean=0.1,
        baseline_clean=0.2,
    )
    assert np.isnan(found["a"])
    assert np.isnan(found["b"])


def test_means_over_no_corruption_have_no_value() -> None:
    assert np.isnan(mean_over({"a": np.array([1.0])}, [])).all()


@pytest.mark.parametrize("other", [{"b": np.array([0.1])}, {"a": np.array([0.1, 0.2])}, {}])
def test_other_corruptions_or_severities_are_refused(other: dict) -> None:
    with pytest.raises(ValueError, match="Both need the same corruptions and severities"):
        corruption_errors({"a": np.array([0.1])}, other)


def test_runs_of_grades_are_judged_by_the_median() -> None:
    logits, labels = logits_of_runs(num_classes=4)
    found = robustness_figures(logits, labels, baseline="probe", shown=ORDINAL_FIGURES, rounds=5)["runs"]
    differ = 0
    for run in RUNS:
        predicted = median_grade(softmax(logits[run][CLEAN]))
        differ += int((predicted != logits[run][CLEAN].argmax(axis=1)).sum())
        expected = balanced_accuracy_score(labels, predicted)
        assert found[run]["clean"]["balanced_accuracy"]["value"] == pytest.approx(expected, abs=1e-9)
    assert differ > 0
