"""Tests of the report of stored outputs: every entry, against scikit-learn and the files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as oracle

from movl_monai.errors import MovlError
from movl_monai.evaluation import (
    Predictions,
    ReportOptions,
    StoredOutputs,
    rebuild_report,
    report_of_outputs,
    report_scalars,
    write_outputs,
    write_report,
)
from movl_monai.metrics.matching import DifferentTestSetsError
from movl_monai.report.several_runs import compare_with_runs
from tests.evaluation.outputs_data import NAMES, stored_outputs
from tests.report.test_report import SCHEMA


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of_outputs(stored_outputs())


@pytest.fixture(scope="module")
def folder(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written evaluation."""
    target = tmp_path_factory.mktemp("run") / "evaluation"
    outputs = stored_outputs()
    write_outputs(target / "outputs.npz", outputs)
    write_report(target, report, outputs.predictions)
    return target


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_entry_is_there_and_follows_the_schema(folder: Path) -> None:
    stored = json.loads((folder / "report.json").read_text())
    SCHEMA.validate(stored)
    assert set(stored["calibration"]["sections"]) == {"id", "ood:scanner_b", "val", "calibration"}
    assert stored["ood_detection"]["chosen"]["score"] == "mahalanobis"
    assert {name: one["kind"] for name, one in stored["ood_detection"]["sets"].items()} == {
        "scanner_b": "near", "colon": "far",
    }  # fmt: skip
    assert stored["conformal"]["calibrated_on"] == {"split": "calibration", "n": 48}
    assert set(stored["groups"]["sex"]["id"]) == {"F", "M", ""}
    assert {row["split"] for row in stored["model_card"]["data"]} >= {"train", "val", "calibration", "test"}
    assert stored["run"] == {"seed": 3}


@pytest.mark.parametrize("section", ["id", "ood:scanner_b", "val", "calibration"])
def test_figures_equal_scikit_learn(report: dict[str, Any], section: str) -> None:
    part = stored_outputs().sections()[section].predictions
    found = report["ood"]["scanner_b"] if ":" in section else report.get(f"{section}_section") or report[section]
    labels, probabilities = part.labels, softmax(part.logits, axis=1)
    predicted = probabilities.argmax(axis=1)
    truth = np.eye(3)[labels]
    expected = {
        "accuracy": oracle.accuracy_score(labels, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, predicted),
        "auroc": oracle.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "auroc_weighted": oracle.roc_auc_score(labels, probabilities, multi_class="ovr", average="weighted"),
        "average_precision": oracle.average_precision_score(truth, probabilities),
        "average_precision_weighted": oracle.average_precision_score(truth, probabilities, average="weighted"),
        "quadratic_kappa": oracle.cohen_kappa_score(labels, predicted, weights="quadratic"),
        "cross_entropy": oracle.log_loss(labels, probabilities),
        "brier": np.mean(np.sum((probabilities - truth) ** 2, axis=1)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    recalls = oracle.recall_score(labels, predicted, average=None)
    assert [found["per_class"][name]["sensitivity"] for name in NAMES] == pytest.approx(recalls, abs=1e-9)
    np.testing.assert_array_equal(found["confusion_matrix"], oracle.confusion_matrix(labels, predicted))


def test_detection_equals_scikit_learn_and_uses_no_test_image_for_its_threshold(report: dict[str, Any]) -> None:
    parts = stored_outputs().sections()
    inside, outside = (-softmax(parts[name].predictions.logits, axis=1).max(axis=1) for name in ("id", "far:colon"))
    expected = oracle.roc_auc_score([0] * len(inside) + [1] * len(outside), [*inside, *outside])
    found = report["ood_detection"]
    assert found["sets"]["colon"]["scores"]["msp"]["auroc"] == pytest.approx(expected, abs=1e-9)
    assert found["fitted_on"] == {"split": "train", "n": 60}
    assert found["threshold_from"] == {"split": "val", "n": 48, "target_id_kept": 0.95}
    assert found["sets"]["colon"]["flagged"] == 1.0
    assert "colon" not in report["ood"]


def test_coverage_is_that_of_the_sets(report: dict[str, Any]) -> None:
    found = report["conformal"]["methods"]["lac"]
    for section, key in (("id", "id"), ("ood:scanner_b", "ood:scanner_b")):
        part = stored_outputs().sections()[key].predictions
        scores = 1 - softmax(part.logits, axis=1)[np.arange(len(part)), part.labels]
        covered = float(np.mean(scores <= found["threshold"]))
        assert found["sections"][section]["coverage"] == pytest.approx(covered, abs=1e-9)


def test_the_order_of_stored_images_changes_nothing(report: dict[str, Any]) -> None:
    outputs = stored_outputs()
    shuffled = outputs.take(np.random.default_rng(0).permutation(len(outputs)))
    assert report_of_outputs(shuffled) == report


def test_without_a_calibration_split_val_stands_in_and_a_note_says_so() -> None:
    outputs = stored_outputs()
    rows = [row for row, split in enumerate(outputs.predictions.splits) if split != "calibration"]
    entry = report_of_outputs(outputs.take(rows))["conformal"]
    assert entry["calibrated_on"] == {"split": "val", "n": 48}
    assert "val selected the checkpoint" in " ".join(entry["notes"])


def test_a_calibration_part_too_small_for_the_coverage_names_the_smallest_alpha() -> None:
    outputs = stored_outputs()
    wanted = [row for row, split in enumerate(outputs.predictions.splits) if split == "calibration"][:4]
    rows = [row for row, split in enumerate(outputs.predictions.splits) if split != "calibration"]
    entry = report_of_outputs(outputs.take([*rows, *wanted]))["conformal"]
    assert entry["smallest_alpha"] == pytest.approx(1 / 5)
    assert entry["methods"]["lac"]["thresholds"] is None
    notes = [*entry["notes"], *entry["methods"]["lac"].get("notes", ())]
    assert "smallest possible alpha is 1/5" in " ".join(notes)


def test_a_test_split_of_one_class_and_a_class_missing_elsewhere_are_gaps_with_a_reason() -> None:
    outputs = stored_outputs()
    labels, places = outputs.predictions.labels, outputs.predictions
    test = [(d, s) == ("id", "test") for d, s in zip(places.domains, places.splits, strict=True)]
    outside = [domain == "scanner_b" for domain in places.domains]
    rows = np.flatnonzero(~(np.array(test) & (labels != 0)) & ~(np.array(outside) & (labels == 2)))
    report = report_of_outputs(outputs.take(rows))
    SCHEMA.validate({**report, "files": {}})
    assert report["id"]["auroc"] is None
    assert report["id"]["balanced_accuracy"] is None
    assert report["ood"]["scanner_b"]["auroc"] is None
    assert any("No images of the class c" in note for note in report["ood"]["scanner_b"]["notes"])
    assert report["ood"]["scanner_b"]["intervals"]["auroc"] is None
    assert report["id"]["accuracy"] is not None


def test_without_other_domains_and_training_images_detection_says_what_is_missing() -> None:
    outputs = stored_outputs()
    places = zip(outputs.predictions.domains, outputs.predictions.splits, strict=True)
    rows = [row for row, place in enumerate(places) if place in (("id", "test"), ("id", "val"))]
    entry = report_of_outputs(outputs.take(rows))["ood_detection"]
    assert entry["chosen"] is None
    assert entry["sets"] == {}
    notes = " ".join(entry["notes"])
    assert "no outputs of training images" in notes
    assert "no images of other domains" in notes


def test_predictions_alone_give_a_report_of_the_schema() -> None:
    predictions = Predictions(ids=["0a", "0b"], logits=[[2.0, 1.0], [0.0, 1.0]], labels=[0, 1])
    report = report_of_outputs(StoredOutputs(predictions=predictions, class_names=["no", "yes"]))
    SCHEMA.validate({**report, "files": {}})
    assert report["calibration"]["temperature"] is None
    assert any("no far sets" in note for note in report["ood_detection"]["notes"])
    assert any("`group_columns`" in note for note in report["groups"]["notes"])


def test_tables_hold_the_numbers_of_the_report(folder: Path, report: dict[str, Any]) -> None:
    figures = {(row["section"], row["class"], row["figure"]): row for row in table(folder, "figures.csv")}
    assert float(figures["id", "", "auroc"]["value"]) == report["id"]["auroc"]
    assert float(figures["id", "", "auroc"]["low"]) == report["id"]["intervals"]["auroc"][0]
    assert (
        float(figures["ood:scanner_b", "b", "sensitivity"]["value"])
        == (report["ood"]["scanner_b"]["per_class"]["b"]["sensitivity"])
    )
    detection = {(row["domain"], row["score"]): row for row in table(folder, "ood_detection.csv")}
    assert len(detection) == 16
    assert (
        float(detection["colon", "knn"]["fpr95"]) == report["ood_detection"]["sets"]["colon"]["scores"]["knn"]["fpr95"]
    )
    reliability = table(folder, "reliability.csv")
    assert len(reliability) == 4 * 2 * 15
    assert sum(int(row["n"]) for row in reliability if (row["section"], row["temperature"]) == ("id", "before")) == 60
    assert {row["value"] for row in table(folder, "groups.csv")} == {"F", "M", ""}
    assert {row["method"] for row in table(folder, "conformal.csv")} == set(report["conformal"]["methods"])
    assert len(table(folder, "operating_points.csv")) == 6 * 4 * 4


def test_scalars_are_the_figures_of_the_report(report: dict[str, Any]) -> None:
    scalars = report_scalars(report)
    assert scalars["id/accuracy"] == report["id"]["accuracy"]
    assert scalars["ood.scanner_b/brier"] == report["ood"]["scanner_b"]["brier"]
    assert scalars["calibration/temperature"] == report["calibration"]["temperature"]
    assert scalars["conformal/lac/id/coverage"] == report["conformal"]["methods"]["lac"]["sections"]["id"]["coverage"]
    assert (
        scalars["ood_detection/colon/knn/auroc"] == (report["ood_detection"]["sets"]["colon"]["scores"]["knn"]["auroc"])
    )
    assert not [name for name in scalars if ":" in name]


def test_a_report_is_built_again_from_the_stored_outputs_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "outputs.npz", tmp_path / "outputs.npz")
    again = rebuild_report(tmp_path)
    assert again == json.loads((folder / "report.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}
    for name in ("report.json", "predictions.csv", "figures.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_pictures_that_need_the_network_and_comparisons_are_kept(folder: Path, tmp_path: Path) -> None:
    run, outside = tmp_path / "run" / "evaluation", os.path.join("..", "..", "secret.png")
    shutil.copytree(folder, run)
    earlier = json.loads((run / "report.json").read_text())
    earlier["explanations"] = {
        "pictures": [{"file": name, "about": ""} for name in ("gradcam.png", outside)],
        "notes": [],
    }
    earlier["comparisons"] = [{"name": "other", "strategy": None, "sections": {}, "notes": []}]
    (run / "report.json").write_text(json.dumps(earlier))
    for place in (run / "gradcam.png", run / "prompt.png", tmp_path / "secret.png"):
        shutil.copy(run / "figure.png", place)
    again = rebuild_report(tmp_path / "run")
    assert again["explanations"] == earlier["explanations"]
    assert "secret" not in str(again["files"])  # a name of a report must not lead out of its folder
    assert again["comparisons"] == earlier["comparisons"]
    assert {"gradcam.png", "prompt.png"} <= set(again["files"].values())


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"schema_version": 1}', "has schema version 1, this movl_monai writes 2. Evaluate the run again"),
     ("{", "is damaged"), ("[]", "is damaged")],
)  # fmt: skip
def test_a_report_of_another_schema_version_is_not_overwritten(
    folder: Path, tmp_path: Path, content: str, message: str
) -> None:
    shutil.copy(folder / "outputs.npz", tmp_path / "outputs.npz")
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(MovlError, match=message):
        rebuild_report(tmp_path)
    assert (tmp_path / "report.json").read_text() == content


def _runs(folder: Path, root: Path, *, skill: float = 1.0) -> tuple[Path, Path]:
    """A run and a linear probe beside it."""
    shutil.copytree(folder, root / "joint" / "evaluation")
    facts = {"run": {"strategy": [{"name": "linear probe"}]}}
    write_outputs(root / "linear_probe" / "evaluation" / "outputs.npz", stored_outputs(skill=skill, facts=facts))
    return root / "joint", root / "linear_probe"


def test_a_run_is_compared_with_a_named_one_and_a_baseline_beside_it(folder: Path, tmp_path: Path) -> None:
    joint, probe = _runs(folder, tmp_path)
    options = ReportOptions(rounds=30)
    (found,) = compare_with_runs(joint, options=options)
    assert (found["name"], found["strategy"]) == ("linear_probe", [{"name": "linear probe"}])
    part, other = (stored_outputs(skill=skill).sections()["id"].predictions for skill in (2.0, 1.0))
    expected = [np.mean(one.logits.argmax(axis=1) == one.labels) for one in (part, other)]
    accuracy = found["sections"]["id"]["accuracy"]
    assert [accuracy["a"], accuracy["b"]] == pytest.approx(expected, abs=1e-9)
    assert compare_with_runs(joint, [probe], options=options) == [found]
    assert compare_with_runs(joint, [probe, joint], options=options) == [found]
    SCHEMA.evolve(schema=SCHEMA.schema["$defs"]["Comparison"] | {"$defs": SCHEMA.schema["$defs"]}).validate(
        json.loads(json.dumps(found))
    )


def test_a_named_run_on_other_images_is_refused_and_one_beside_is_left_out(folder: Path, tmp_path: Path) -> None:
    joint, probe = _runs(folder, tmp_path)
    fewer = stored_outputs().take(np.arange(200))
    write_outputs(probe / "evaluation" / "outputs.npz", fewer)
    with pytest.raises(DifferentTestSetsError):
        rebuild_report(joint, against=[probe])
    assert compare_with_runs(joint, options=ReportOptions(rounds=5)) == []


def test_options_out_of_range_are_refused() -> None:
    for name, value, expected in (
        ("alpha", 1.0, r"alpha must be in \(0, 1\), got 1.0"),
        ("rounds", 0, "rounds must be at least 1, got 0"),
        ("target_risk", -0.1, r"target_risk must be in \[0, 1\)"),
        ("operating_points", [{"metric": "auroc", "at_least": 0.9}], "sensitivity or specificity"),
    ):
        with pytest.raises(MovlError, match=expected):
            ReportOptions(**{name: value})
