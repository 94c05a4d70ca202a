"""Tests of paired comparisons: loops over resampled rows and the written-out binomial distribution are the oracles."""

from __future__ import annotations

from math import comb
from pathlib import Path

import numpy as np
import pytest

from movl_monai.data.ids import IdMap
from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, write_outputs
from movl_monai.metrics.matching import DifferentTestSetsError, ImageNames, match_images
from movl_monai.metrics.paired import compare_outputs, compare_runs, mcnemar, paired_figures
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.weighted import METRICS
from tests.evaluation.data import random_logits
from tests.metrics.test_intervals import FUNCTIONS, resampled_rows

NAMES = ["a", "b", "c"]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_differences_of_all_figures_equal_an_explicit_loop(num_classes: int) -> None:
    labels, a = random_logits(90, num_classes, skill=1.5)
    b = a + np.random.default_rng(8).normal(size=a.shape)
    patients = [f"p{index // 3}" for index in range(90)]
    found = paired_figures(labels, a, b, patients=patients, rounds=25, seed=4)
    loop = resampled_rows(patients, rounds=25, seed=4)
    for metric in METRICS:
        function, entry = FUNCTIONS[metric], found["metrics"][metric]
        values = [function(labels[rows], a[rows]) - function(labels[rows], b[rows]) for rows in loop]
        np.testing.assert_allclose(entry["interval"], np.quantile(values, [0.025, 0.975]), atol=1e-9)
        assert (entry["a"], entry["b"]) == pytest.approx((function(labels, a), function(labels, b)), abs=1e-9)
        assert entry["difference"] == pytest.approx(entry["a"] - entry["b"], abs=1e-12)
    assert found["resampled"] == "patients"


def test_figure_without_a_value_is_a_gap_with_the_reason() -> None:
    labels, logits = random_logits(30, 3)
    rows = labels != 2
    found = paired_figures(labels[rows], logits[rows], -logits[rows], metrics=["accuracy", "auroc"], rounds=10)
    assert found["metrics"]["auroc"] == dict.fromkeys(["a", "b", "difference", "interval"])
    assert found["metrics"]["accuracy"]["interval"] is not None
    assert "No value on these images for auroc" in found["notes"][-1]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (7, 2), (3, 3), (20, 5)])
def test_mcnemar_is_the_two_sided_binomial_test(only_a: int, only_b: int) -> None:
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    a = [right] * only_a + [wrong] * only_b + [right] * 4
    b = [wrong] * only_a + [right] * only_b + [right] * 4
    count, less = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * sum(comb(count, k) for k in range(less + 1)) / 2**count)
    found = mcnemar(np.zeros(len(a), dtype=int), a, b)
    assert (found["only_a"], found["only_b"]) == (only_a, only_b)
    assert found["p_value"] == pytest.approx(expected, abs=1e-12)


def outputs_of(ids: list[str], logits: np.ndarray, labels: np.ndarray, **options: object) -> StoredOutputs:
    facts = {"splits": ["test"] * len(ids), "domains": ["id"] * (len(ids) - 20) + ["other"] * 20}
    patients = [f"p{index // 2}" for index in range(len(ids))]
    predictions = Predictions(ids=ids, logits=logits, labels=labels, patients=patients, **{**facts, **options})
    return StoredOutputs(predictions=predictions, class_names=NAMES)


@pytest.fixture
def pair() -> tuple[StoredOutputs, StoredOutputs, ImageNames, ImageNames]:
    """Two runs on 80 images, with different ids and the images in another order."""
    labels, logits = random_logits(80, 3)
    other = logits + np.random.default_rng(1).normal(size=logits.shape)
    names, order = [f"img/{index}.png" for index in range(80)], np.random.default_rng(2).permutation(80)
    ids_a, ids_b = ([f"{salt}{index:011x}" for index in range(80)] for salt in "ab")
    a = outputs_of(ids_a, logits, labels)
    b = outputs_of(ids_b, other, labels)
    b = b.take(order)
    return a, b, ImageNames(dict(zip(ids_a, names, strict=True))), ImageNames(dict(zip(ids_b, names, strict=True)))


def test_runs_with_other_salts_and_order_are_compared_image_by_image(pair: tuple) -> None:
    a, b, names_a, names_b = pair
    report = compare_outputs(a, b, names_a=names_a, names_b=names_b, name="probe", strategy="linear", rounds=20)
    assert (report["name"], report["strategy"], list(report["sections"])) == ("probe", "linear", ["id", "ood:other"])
    assert set(report["sections"]["id"]) == set(METRICS)
    part = a.predictions.take(range(60))
    rows = [int(np.flatnonzero(np.array(b.predictions.ids) == f"b{name[1:]}")[0]) for name in part.ids]
    same = b.predictions.logits[rows]
    expected = FUNCTIONS["auroc"](part.labels, part.logits) - FUNCTIONS["auroc"](part.labels, same)
    assert report["sections"]["id"]["auroc"]["difference"] == pytest.approx(expected, abs=1e-9)
    assert report["tests"]["id"] == {"n": 60, "mcnemar": mcnemar(part.labels, part.logits, same)}
    assert any("McNemar's test takes images as independent" in note for note in report["notes"])


def test_patients_of_the_other_run_serve_where_a_knows_none(pair: tuple) -> None:
    a, b, names_a, names_b = pair
    part = a.predictions
    bare = Predictions(ids=part.ids, logits=part.logits, labels=part.labels, splits=part.splits, domains=part.domains)
    unknown = StoredOutputs(predictions=bare, class_names=NAMES)
    first = compare_outputs(a, b, names_a=names_a, names_b=names_b, metrics=["accuracy"], rounds=20)
    second = compare_outputs(unknown, b, names_a=names_a, names_b=names_b, metrics=["accuracy"], rounds=20)
    assert first == second
    alone = compare_outputs(unknown, unknown, metrics=["accuracy"], rounds=20)
    assert any("patients are not known" in note for note in alone["notes"])
    assert not any("McNemar" in note for note in alone["notes"])


def test_salts_and_order_of_images_change_no_figure(pair: tuple) -> None:
    a, b, names_a, names_b = pair
    first = compare_outputs(a, b, names_a=names_a, names_b=names_b, metrics=["auroc"], rounds=20)
    shuffled = a.take(np.random.default_rng(5).permutation(len(a)))
    second = compare_outputs(shuffled, b, names_a=names_a, names_b=names_b, metrics=["auroc"], rounds=20)
    assert first["tests"] == second["tests"]
    one, two = (report["sections"]["id"]["auroc"] for report in (first, second))
    assert one.pop("interval") == pytest.approx(two.pop("interval"), abs=1e-12)
    assert one == pytest.approx(two, abs=1e-12)


def test_classes_in_another_order_are_sorted_and_other_classes_refused(pair: tuple) -> None:
    a, _, names, _ = pair
    part = a.predictions
    turned = StoredOutputs(
        predictions=Predictions(
            ids=part.ids, logits=part.logits[:, [2, 0, 1]], labels=(part.labels + 1) % 3, domains=part.domains
        ),
        class_names=["c", "a", "b"],
    )
    report = compare_outputs(a, turned, metrics=["accuracy", "auroc"], rounds=5)
    assert {entry["difference"] for entry in report["sections"]["id"].values()} == {0.0}
    renamed = StoredOutputs(predictions=part, class_names=["a", "b", "d"])
    with pytest.raises(DifferentTestSetsError, match="different classes: a, b, c and a, b, d"):
        compare_outputs(a, renamed, names_a=names)


def test_different_test_sets_are_refused(pair: tuple) -> None:
    a, b, names_a, names_b = pair
    fewer = b.take([row for row in range(len(b)) if row != b.predictions.ids.index("b00000000000")])
    with pytest.raises(
        DifferentTestSetsError, match="id: The runs were evaluated on different images: a on 60, b on 59"
    ):
        compare_outputs(a, fewer, names_a=names_a, names_b=names_b)
    labels = b.predictions.labels.copy()
    labels[0] = (labels[0] + 1) % 3
    part = b.predictions
    wrong = Predictions(ids=part.ids, logits=part.logits, labels=labels, domains=part.domains, splits=part.splits)
    with pytest.raises(DifferentTestSetsError, match="1 of [0-9]+ images have another label in the other run"):
        compare_outputs(a, StoredOutputs(predictions=wrong, class_names=NAMES), names_a=names_a, names_b=names_b)


def test_sections_of_one_run_only_are_noted_and_no_common_one_is_refused(pair: tuple) -> None:
    a, *_ = pair
    inside = a.take(range(60))
    report = compare_outputs(a, inside, metrics=["accuracy"], rounds=5)
    assert (list(report["sections"]), report["notes"][0]) == (["id"], "ood:other: only one of the runs has it.")
    with pytest.raises(DifferentTestSetsError, match="share no test images: a has id, b has ood:other"):
        compare_outputs(inside, a.take(range(60, 80)))


def test_images_for_selection_are_not_compared(pair: tuple) -> None:
    a, *_ = pair
    part = a.predictions
    held = Predictions(
        ids=part.ids, logits=part.logits, labels=part.labels, splits=["val"] * 40 + ["calibration"] * 20 + ["test"] * 20
    )
    outputs = StoredOutputs(predictions=held, class_names=NAMES)
    report = compare_outputs(outputs, outputs, metrics=["accuracy"], rounds=5)
    assert report["tests"]["id"]["n"] == 20
    assert list(report["sections"]) == ["id"]


def test_other_salts_without_id_maps_are_refused_with_what_to_do(pair: tuple) -> None:
    a, b, names_a, _ = pair
    with pytest.raises(MovlError, match=r"salted differently, and local/id_map.json of run b is missing"):
        compare_outputs(a, b, names_a=names_a)


def test_matching_refuses_stale_maps_and_repeated_images() -> None:
    names = ImageNames({"0a": "x", "0b": "y"})
    with pytest.raises(MovlError, match="1 of 2 images are not in the id map"):
        match_images(["0a", "0c"], ["1a", "1b"], names_a=names, names_b=ImageNames({"1a": "x", "1b": "y"}))
    with pytest.raises(MovlError, match="An image is there twice"):
        match_images(["0a", "0a"], ["0a", "0a"])
    with pytest.raises(MovlError, match="An image is there twice"):
        match_images(["0a", "0b"], ["1a", "1b"], names_a=names, names_b=ImageNames({"1a": "x", "1b": "x"}))


def write_run(folder: Path, root: Path, seed: int, files: dict[str, bytes]) -> Path:
    """A run as evaluation leaves it: stored outputs, and the id map of a data set of these files."""
    ids = IdMap(folder / "local" / "id_map.json")
    names = []
    for key, content in files.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(content)
        names.append(ids.add(key, path=root / key))
    ids.save()
    labels, logits = random_logits(len(files), 3, seed=seed)
    labels = np.arange(len(files)) % 3
    write_outputs(folder / "evaluation" / "outputs.npz", outputs_of(names, logits, labels))
    return folder


def test_folders_of_runs_are_matched_by_their_local_id_maps_wherever_the_data_lie(tmp_path: Path) -> None:
    files = {f"{index}.png": bytes([index]) for index in range(60)}
    one = write_run(tmp_path / "one", tmp_path / "data", 0, files)
    two = write_run(tmp_path / "two", tmp_path / "copy", 1, files)
    report = compare_runs(one, two / "evaluation", name="two", metrics=["accuracy"], rounds=10)
    assert report["tests"]["id"]["n"] == 40
    assert not any(key in str(report) for key in files)
    (two / "local" / "id_map.json").unlink()
    with pytest.raises(MovlError, match="of run b is missing"):
        compare_runs(one, two)


def test_data_sets_with_the_same_names_for_other_images_are_refused(tmp_path: Path) -> None:
    files = {f"{index}.png": bytes([index]) for index in range(60)}
    one = write_run(tmp_path / "one", tmp_path / "data", 0, files)
    two = write_run(tmp_path / "two", tmp_path / "else", 1, dict.fromkeys(files, b"other"))
    with pytest.raises(DifferentTestSetsError, match="40 images have the same name in both runs but are other files"):
        compare_runs(one, two)
