"""Tests of groups: the figures of each group's images, and a loop over resampled patients for the intervals."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from movl_monai.evaluation import Predictions
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.subgroups import GROUP_METRICS, group_figures, group_report
from tests.evaluation.data import random_logits
from tests.metrics.test_intervals import FUNCTIONS, resampled_rows


def grouped(count: int = 120, num_classes: int = 2) -> tuple[Predictions, list[str]]:
    """Two images per patient; M is harder than F, and the last six images have no group."""
    labels, logits = random_logits(count, num_classes, skill=2.0)
    values = ["F" if index // 2 % 2 else "M" for index in range(count - 6)] + [""] * 6
    harder = np.array([value == "M" for value in values])
    logits[harder] += np.random.default_rng(3).normal(size=(harder.sum(), num_classes)) * 2
    patients = [f"p{index // 2}" for index in range(count)]
    return Predictions(
        ids=[str(index) for index in range(count)], logits=logits, labels=labels, patients=patients
    ), values


@pytest.mark.parametrize("num_classes", [2, 3])
def test_figures_intervals_and_gaps_equal_a_loop_over_resampled_patients(num_classes: int) -> None:
    images, values = grouped(num_classes=num_classes)
    found = group_figures(images, values, rounds=30, seed=4)
    loop = resampled_rows(images.patients, rounds=30, seed=4)
    column = np.array(values)

    def figure(metric: str, value: str, rows: list[int] | np.ndarray) -> float:
        own = np.asarray(rows)[column[rows] == value]
        return FUNCTIONS[metric](images.labels[own], images.logits[own])

    assert list(found["groups"]) == ["F", "M", ""]
    for metric in GROUP_METRICS:
        drawn = {value: np.array([figure(metric, value, rows) for rows in loop]) for value in ("F", "M")}
        whole = {value: figure(metric, value, np.arange(120)) for value in ("F", "M")}
        for value in ("F", "M"):
            group = found["groups"][value]
            assert group[metric] == pytest.approx(whole[value], abs=1e-9)
            expected = np.quantile(drawn[value], [0.025, 0.975])
            np.testing.assert_allclose(group["intervals"][metric], expected, atol=1e-9)
        gap = found["gap"]["all"][metric]
        better, worse = gap["between"]
        assert gap["largest"] == pytest.approx(whole[better] - whole[worse], abs=1e-9)
        assert gap["largest"] >= 0
        expected = np.quantile(drawn[better] - drawn[worse], [0.025, 0.975])
        np.testing.assert_allclose(gap["interval"], expected, atol=1e-9)
    assert {name: found["gap"][name] for name in ("metric", "between")} == {
        "metric": "balanced_accuracy",
        "between": ["F", "M"],
    }


def test_missing_values_are_a_group_and_small_groups_are_marked_not_hidden() -> None:
    images, values = grouped()
    found = group_figures(images, values, rounds=10)
    assert found["groups"][""]["n"] == 6
    assert {value: group["small"] for value, group in found["groups"].items()} == {"F": False, "M": False, "": True}
    assert found["groups"][""]["accuracy"] is not None
    assert "" not in found["gap"]["between"]
    assert "6 images tell no value; they are a group of their own." in found["notes"]


def test_group_of_many_images_of_few_patients_is_small() -> None:
    images, _ = grouped()
    few = Predictions(ids=images.ids, logits=images.logits, labels=images.labels, patients=["a", "b"] * 60)
    group = group_figures(few, ["x"] * 120, rounds=5)["groups"]["x"]
    assert (group["n"], group["n_patients"], group["small"]) == (120, 2, True)


def test_largest_gap_is_that_of_the_two_groups_furthest_apart() -> None:
    images, _ = grouped()
    values = [f"site {index % 4}" for index in range(120)]
    found = group_figures(images, values, metrics=["accuracy"], small_below=5, rounds=5)
    figures = {value: group["accuracy"] for value, group in found["groups"].items()}
    assert found["gap"]["largest"] == max(figures[one] - figures[two] for one, two in permutations(figures, 2))


def test_gap_of_small_groups_is_given_and_says_so_where_there_are_no_others() -> None:
    images, values = grouped(24)
    gap = group_figures(images, values, rounds=10)["gap"]
    assert gap["small"] is True
    assert gap["largest"] is not None
    assert gap["notes"] == ["There are not two groups that are not small."]


def test_group_without_a_class_has_gaps_with_the_reason_and_the_next_figure_stands_in() -> None:
    labels = np.array([0, 1] * 20 + [0] * 40)
    images = Predictions(ids=[str(i) for i in range(80)], labels=labels, logits=random_logits(80, 2)[1])
    found = group_figures(images, ["a"] * 40 + ["b"] * 40, rounds=20)
    assert found["groups"]["b"]["auroc"] is None
    assert found["groups"]["b"]["intervals"]["auroc"] is None
    assert found["gap"]["metric"] == "accuracy"
    assert found["gap"]["all"]["auroc"]["largest"] is None
    assert "auroc has no value in 'b': a class has no images there, or all of them." in found["notes"]


def test_one_group_alone_has_no_gap_and_the_reason() -> None:
    images, _ = grouped()
    gap = group_figures(images, ["x"] * 120, rounds=5)["gap"]
    assert (gap["largest"], gap["between"], gap["interval"]) == (None, None, None)
    assert "There are not two groups" in gap["notes"][0]


def test_many_values_are_all_shown_with_the_advice_to_use_bands() -> None:
    images, _ = grouped()
    found = group_figures(images, [str(index % 30) for index in range(120)], rounds=5)
    assert list(found["groups"])[:3] == ["0", "1", "2"]
    assert len(found["groups"]) == 30
    assert any("put them into bands" in note for note in found["notes"])


def test_report_has_every_column_and_section_and_is_ready_for_json() -> None:
    images, values = grouped()
    view = ["AP", "PA"] * 60
    outputs = StoredOutputs(predictions=images, class_names=["no", "yes"], groups={"sex": values, "notes": view})
    bare = StoredOutputs(predictions=images, class_names=["no", "yes"])
    report = group_report({"id": outputs, "ood:b": bare}, rounds=5)
    assert list(report) == ["sex", "notes (column)", "notes"]
    assert list(report["sex"]["id"]) == ["F", "M", ""]
    assert list(report["sex"]["gaps"]) == ["id"]
    assert any("ood:b: no labeled images with this column." in note for note in report["sex"]["notes"])
    assert "fewer than 20 images or patients" in report["notes"][0]
    json.dumps(report, allow_nan=False)


def test_unknown_column_is_noted_and_no_columns_give_nothing() -> None:
    images, values = grouped()
    outputs = StoredOutputs(predictions=images, class_names=["no", "yes"], groups={"sex": values})
    assert group_report({"id": outputs}, columns=["age"])["notes"] == ["There is no group 'age'; there are: sex."]
    assert group_report({"id": StoredOutputs(predictions=images, class_names=["no", "yes"])}) == {"notes": []}


def test_values_of_another_length_are_refused() -> None:
    images, _ = grouped()
    with pytest.raises(ValueError, match="one value per image, got 2 for 120"):
        group_figures(images, ["a", "b"])
