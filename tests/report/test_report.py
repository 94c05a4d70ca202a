"""Tests of the report and its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, build_report, classification_figures, write_report
from movl_monai.metrics.weighted import METRICS
from movl_monai.report.schema import report_schema
from tests.evaluation.data import random_predictions

NAMES = ["a", "b", "c"]
SCHEMA = Draft202012Validator(report_schema())


def report_of(predictions: Predictions, **options: Any) -> dict[str, Any]:
    return build_report(predictions, class_names=NAMES, rounds=20, **options)


def test_sections_hold_the_figures_of_their_images() -> None:
    predictions = random_predictions()
    report = report_of(predictions)
    rows = [row for row, domain in enumerate(predictions.domains) if domain == "scanner_b"]
    figures = classification_figures(predictions.labels[rows], predictions.logits[rows], class_names=NAMES)
    for name in ("n", "accuracy", "balanced_accuracy", "auroc", "cross_entropy", "brier", "ece"):
        assert report["ood"]["scanner_b"][name] == pytest.approx(figures[name], abs=1e-12)
    assert report["ood"]["scanner_b"]["confusion_matrix"] == figures["confusion_matrix"]
    assert set(report["id"]["intervals"]) == set(METRICS) <= set(report["id"])
    assert (report["schema_version"], report["classes"], list(report["ood"])) == (2, NAMES, ["hospital_c", "scanner_b"])


def test_order_of_images_changes_nothing() -> None:
    predictions = random_predictions()
    shuffled = predictions.take(np.random.default_rng(0).permutation(len(predictions)))
    assert report_of(shuffled) == report_of(predictions)


def test_another_salt_of_the_ids_changes_nothing() -> None:
    predictions = random_predictions()
    renamed = predictions.take(np.arange(len(predictions)))
    renamed.ids = [hashlib.sha256(name.encode()).hexdigest()[:12] for name in predictions.ids]
    assert np.argsort(renamed.ids).tolist() != np.argsort(predictions.ids).tolist()
    assert report_of(renamed) == report_of(predictions)


def test_validation_figures_say_that_they_are_not_a_test_result() -> None:
    report = report_of(random_predictions())
    assert report["val"]["n"] == 15
    assert any(note.startswith("val: the checkpoint was selected") for note in report["notes"])


def test_training_images_are_in_no_figure() -> None:
    predictions = Predictions(ids=["0a", "0b"], logits=np.eye(3)[:2] * 3, labels=[0, 1], splits=["train", "test"])
    report = report_of(predictions)
    assert report["id"]["n"] == 1
    assert "train: 1 training images" in " ".join(report["notes"])


def test_without_id_images_the_section_is_null_and_a_note_says_so() -> None:
    predictions = Predictions(ids=["0a"], logits=[[0, 1, 2]], labels=[0], domains=["elsewhere"])
    report = report_of(predictions)
    assert report["id"] is None
    assert "no test images of the domain 'id'" in " ".join(report["notes"])


def test_images_without_a_label_are_counted_and_left_out() -> None:
    predictions = Predictions(ids=["0a", "0b"], logits=np.eye(3)[:2] * 3, labels=[0, -1])
    section = report_of(predictions)["id"]
    assert (section["n"], section["n_unlabeled"]) == (1, 1)
    assert "1 images without a label" in " ".join(section["notes"])


def test_numbers_that_are_not_finite_become_null_with_a_note() -> None:
    report = report_of(random_predictions(), run_info={"loss": float("inf"), "lr": {"head": float("nan")}})
    json.dumps(report, allow_nan=False)
    assert report["run"] == {"loss": None, "lr": {"head": None}}
    assert "run.lr.head was nan, which JSON cannot hold." in report["notes"]


def test_written_report_names_files_that_are_there(tmp_path: Path) -> None:
    predictions, picture = random_predictions(), np.full((4, 6, 3), 128, dtype=np.uint8)
    written = write_report(tmp_path / "new", report_of(predictions), predictions, prompt_picture=picture)
    stored = json.loads((tmp_path / "new" / "report.json").read_text())
    assert stored == written
    assert sorted(stored["files"].values()) == sorted(path.name for path in (tmp_path / "new").iterdir())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "prompt.png")), picture)


@pytest.mark.parametrize("present", [[0], [0, 1], []])
def test_degenerate_images_still_give_all_files(tmp_path: Path, present: list[int]) -> None:
    predictions = random_predictions()
    chosen = predictions.take(np.flatnonzero(np.isin(predictions.labels, present)))
    unlabeled = Predictions(ids=["ff"], logits=[[0, 1, 2]])
    predictions = chosen if len(chosen) else unlabeled
    write_report(tmp_path, report_of(predictions), predictions)
    expected = {"report.json", "report.html", "predictions.csv", "figure.png", "figures.csv"}
    assert expected <= {path.name for path in tmp_path.iterdir()}
    SCHEMA.validate(json.loads((tmp_path / "report.json").read_text()))


def test_output_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    predictions = random_predictions()
    with pytest.raises(MovlError, match="predictions.csv cannot be written: .*; choose another output_dir"):
        write_report(tmp_path / "taken", report_of(predictions), predictions)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), dtype=np.uint8), np.zeros((4, 4, 3))])
def test_pictures_of_another_kind_are_refused(tmp_path: Path, picture: np.ndarray) -> None:
    predictions = random_predictions()
    with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\)"):
        write_report(tmp_path, report_of(predictions), predictions, prompt_picture=picture)
