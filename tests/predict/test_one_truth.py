"""All ways to predict the same images give the same numbers and flags."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import sr

from movl_monai.engines import open_run
from movl_monai.evaluation.trust_record import trained_state_sha256
from movl_monai.export import read_exported
from movl_monai.export.exporting import export_run
from movl_monai.export.sealed import SUFFIXES
from movl_monai.predict import dicom as dicom_module
from movl_monai.predict.dicom import read_classification_report
from movl_monai.predict.run import predict
from movl_monai.report.model_card import model_card
from tests.predict.truth import (
    CLASSIFIERS,
    TOLERANCE,
    Judged,
    change_without_adapter,
    differences,
    judged_classifier,
    said_by,
)

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=list(CLASSIFIERS))
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A run of a classifier with its evaluation."""
    return judged_classifier(tmp_path_factory.mktemp("judged"), request.param)


def test_what_is_compared_differs_between_images_and_has_marks_of_both_kinds(judged: Judged) -> None:
    expected = judged.expected
    count = len(expected.keys)
    assert (count, len(set(expected.predicted))) == (48, 2)
    assert np.diff(np.sort(expected.probabilities[:, 0])).min() > 1e-5
    assert np.ptp(expected.probabilities[:, 0]) > 0.5
    trusted: Any = expected.trusted
    for marks in (trusted.outside, trusted.abstain, trusted.sets):
        assert set(np.unique(marks)) == {False, True}
    assert np.abs(trusted.probabilities - expected.probabilities).max() > 0.01
    assert np.mean(judged.clear) > 0.9


@pytest.mark.parametrize("judged", ["dvpt_classification"], indirect=True)
def test_dvpt_acts_in_the_network_that_is_compared(judged: Judged) -> None:
    assert change_without_adapter(judged.run) > 0.01


@pytest.mark.parametrize("route", ["run", *SUFFIXES])
def test_predict_says_of_every_image_what_the_evaluation_said(judged: Judged, route: Any, tmp_path: Path) -> None:
    model, device = judged.run, "cpu"
    if route != "run":
        model, device = tmp_path / f"model{SUFFIXES[route]}", None
        export_run(judged.run, route, output=model, images=[judged.images])
    predict(model, judged.images, out=tmp_path / "out", num_workers=0, batch_size=5, device=device)
    found = said_by(tmp_path / "out", judged.images, list(judged.outputs.class_names))
    assert max(differences(found, judged).values()) <= TOLERANCE


def test_the_shares_of_images_outside_are_those_of_the_report(judged: Judged, tmp_path: Path) -> None:
    predict(judged.run, judged.images, out=tmp_path, num_workers=0, device="cpu")
    found = said_by(tmp_path, judged.images, list(judged.outputs.class_names))
    detection = judged.report["ood_detection"]
    elsewhere = np.array([name.startswith("scanner_b/") for name, _ in found.keys])
    test = {judged.keys[row] for row, split in enumerate(judged.outputs.predictions.splits) if split == "test"}
    inside = np.array([key in test for key in found.keys]) & ~elsewhere
    outside: Any = found.trusted.outside
    assert outside[inside].mean() == detection["id_flagged"]
    assert outside[elsewhere].mean() == detection["sets"]["scanner_b"]["flagged"]


@pytest.fixture(scope="module")
def mixed(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the images, a truncated one, and a file that is not an image."""
    folder = tmp_path_factory.mktemp("mixed")
    for number, path in enumerate(sorted(judged.images.rglob("*.dcm"))[::5]):
        shutil.copy(path, folder / f"{number}.dcm")
    (folder / "1.dcm").write_bytes((folder / "1.dcm").read_bytes()[:-300])
    (folder / "notes.txt").write_text("nothing")
    return folder


def test_predict_and_inferring_write_one_table(judged: Judged, mixed: Path, tmp_path: Path) -> None:
    predict(judged.run, mixed, out=tmp_path / "a", num_workers=0, device="cpu")
    (tmp_path / "b/local").mkdir(parents=True)
    shutil.copy(tmp_path / "a/local/id_map.json", tmp_path / "b/local")  # the same salt, so the same ids
    own = {"dataset_dir": str(mixed), "output_dir": str(tmp_path / "b"), "num_workers": 0, "device": "cpu"}
    open_run(judged.run).parser("inference", **own).get_parsed_content("evaluator").run()
    tables = []
    for name in "ab":
        with (tmp_path / name / "predictions.csv").open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        places = tmp_path / name / "local/files.csv"
        assert places.stat().st_mode & 0o777 == 0o600
        tables.append((header, rows, places.read_text().splitlines()))
    header, rows, places = tables[0]
    assert (header, places) == (tables[1][0], tables[1][2])
    for one, other in zip(rows, tables[1][1], strict=True):
        for cell, same in zip(one, other, strict=True):
            assert cell == same or float(cell) == pytest.approx(float(same), rel=1e-4, abs=1e-6)
    said = [json.loads((tmp_path / name / "predictions.json").read_text()) for name in "ab"]
    known = [{**one, "results": [row["id"] for row in one["results"]]} for one in said]
    assert {**known[0]["model"], "name": ""} == {**known[1]["model"], "name": ""}
    assert {**known[0], "model": None} == {**known[1], "model": None}
    assert [row.keys() for row in said[0]["results"]] == [row.keys() for row in said[1]["results"]]
    assert header[:5] == ["id", "status", "reason", "detail", "answer"]
    assert {row[2] for row in rows} == {"", "truncated", "other_file"}
    assert [line.split(",")[0] for line in places[1:]] == [row[0] for row in rows]


def test_one_hash_names_the_trained_state_everywhere(judged: Judged, tmp_path: Path) -> None:
    model = tmp_path / "model.ts"
    export_run(judged.run, "torchscript", output=model, images=[judged.images])
    predict(judged.run, judged.images, out=tmp_path / "out", outputs=["json", "sr"], num_workers=0, device="cpu")
    said = json.loads((tmp_path / "out/predictions.json").read_text())
    own = trained_state_sha256(open_run(judged.run).network())
    card = model_card(judged.report)["run"]
    report = next((tmp_path / "out/sr").glob("*.dcm")).read_bytes()
    assert {said["model"]["checkpoint_sha256"], judged.report["run"]["checkpoint_sha256"]} == {own}
    assert {card["checkpoint_sha256"], read_exported(model).metadata["checkpoint_sha256"]} == {own}
    assert judged.record.checkpoint_sha256 == own
    assert f"checkpoint sha256: {own}".encode() in report
    file = open_run(judged.run).checkpoint.read_bytes()
    assert card["checkpoint_file_sha256"] == hashlib.sha256(file).hexdigest() != own


def test_an_abstaining_model_leads_with_no_answer(
    judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[str]] = []
    draw = dicom_module.draw_text
    monkeypatch.setattr(dicom_module, "draw_text", lambda image, lines: drawn.append(list(lines)) or draw(image, lines))
    predict(judged.run, judged.images, out=tmp_path, outputs=["json", "csv", "sr", "sc"], num_workers=0, device="cpu")
    rows = json.loads((tmp_path / "predictions.json").read_text())["results"]
    refused = [row for row in rows if row["abstain"]]
    assert 0 < len(refused) < len(rows)
    for row, lines in zip(rows, drawn, strict=True):
        leads = "No answer: unlike the training images" if row["outside"] else "No answer: not sure enough"
        assert (row["answer"] == leads) == (lines[0] == leads) == (row["calibrated"] is None) == row["abstain"]
        assert not row["abstain"] or not any("calibrated" in line or "probability" in line for line in lines)
    names = list(judged.outputs.class_names)
    documents = [sr.srread(path) for path in (tmp_path / "sr").glob("*.dcm")]
    groups = [group for one in documents for group in one.content.get_image_measurement_groups()]
    leading = [None if group.finding_type is None else group.finding_type.meaning for group in groups]
    assert Counter(leading) == Counter(row["answer"] if row["abstain"] else None for row in rows)
    findings = [one for path in (tmp_path / "sr").glob("*.dcm") for one in read_classification_report(path, names)]
    assert {(one.abstained, one.calibrated) for one in findings} == {(True, False), (False, True)}


def test_without_the_trust_record_nothing_is_marked(judged: Judged, tmp_path: Path) -> None:
    summary = predict(judged.run, judged.images, out=tmp_path, num_workers=0, device="cpu", overrides={"trust": None})
    assert summary is not None
    assert {row["calibrated"] for row in summary.rows} == {row["outside"] for row in summary.rows} == {None}
