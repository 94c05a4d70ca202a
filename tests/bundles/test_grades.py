"""Grades: training, evaluation, prediction, export and objects give the same median, whatever the head."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

import movl_monai
from movl_monai.deploy.prediction import open_for, predict_files
from movl_monai.engines import open_run
from movl_monai.errors import DataError
from movl_monai.evaluation import read_outputs
from movl_monai.evaluation.evaluate import evaluate
from movl_monai.export import read_exported
from movl_monai.export.exporting import export_run
from movl_monai.heads import OrdinalHead
from movl_monai.metrics.classification_metrics import median_grade, softmax
from movl_monai.phantom import write_phantom
from movl_monai.predict.dicom import read_classification_report
from movl_monai.predict.run import predict
from tests.helpers import QUIET
from tests.workflows import run, user_error_of

pytestmark = QUIET
MOVL, DVPT = "movl_classification", "dvpt_classification"
NAMES = ["0", "1", "2", "3", "4"]
ARMS = {
    (MOVL, "head_ordinal"): ["task_ordinal.json", "strategy_linear_probe.json", "head_ordinal.json"],
    (DVPT, "softmax"): ["strategy_linear_probe.json", "task_ordinal.json"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graded")
    write_phantom(folder, kind="grades", patients=(20, 14, 8, 4), images_per_patient=1, size=64, progress=False)
    return folder


@pytest.fixture(scope="module", params=list(ARMS), ids=" ".join)
def graded(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A trained and evaluated run of grades, and its workflow."""
    out = tmp_path_factory.mktemp("run")
    made = run(request.param[0], "training", ARMS[request.param], dataset_dir=data, output_dir=out)
    evaluate(open_run(out), log=False, dataset_dir=str(data), num_workers=0, target_risk=0.5, device="cpu")
    return out, made


def test_checkpoint_is_selected_by_the_kappa_of_the_median(graded: tuple[Path, Any]) -> None:
    out, made = graded
    evaluator = made.parser.get_parsed_content("validate#evaluator")
    assert evaluator.state.key_metric_name == "val_median_quadratic_kappa"
    assert open_run(out).task == "ordinal"
    val = read_outputs(out).sections()["val"].predictions
    kappa = cohen_kappa_score(val.labels, median_grade(softmax(val.logits)), weights="quadratic")
    assert evaluator.state.best_metric == pytest.approx(kappa, abs=1e-6)


def test_evaluation_reports_grades(graded: tuple[Path, Any]) -> None:
    report = json.loads((graded[0] / "evaluation/report.json").read_text())
    part = read_outputs(graded[0]).sections()["id"].predictions
    predicted = median_grade(softmax(part.logits))
    assert report["task"] == "ordinal"
    assert report["id"]["mean_absolute_error"] == pytest.approx(np.abs(part.labels - predicted).mean())
    assert list(report["conformal"]["methods"]) == ["ordinal_aps", "ordinal_aps_per_class"]


def test_every_route_gives_the_medians_of_the_evaluation(graded: tuple[Path, Any], data: Path, tmp_path: Path) -> None:
    _check_route(graded[0], data, tmp_path / "run", "run", graded[0])
    if not isinstance(open_run(graded[0]).network().head, OrdinalHead):
        return  # files of one arm are enough
    pytest.importorskip("onnxruntime")
    model = tmp_path / "model.onnx"
    (file,) = export_run(graded[0], "onnx", output=model, images=[data / "images"])
    assert file.parity.logits <= 1e-4
    assert file.parity.relative
    assert read_exported(model).task == "ordinal"
    for route in ("onnx", "deploy"):
        _check_route(model, data, tmp_path / route, route, graded[0])


def _check_route(model: Path, data: Path, folder: Path, route: str, run_dir: Path) -> None:
    """Compare the predictions of a run or file with the evaluation of the run."""
    if route == "deploy":
        files = sorted((data / "images").rglob("*.dcm"))
        found = predict_files(open_for(model, task="classification"), files, folder=folder / "out").rows
        got = [(row["predicted"], row["probabilities"], row["prediction_set"]) for row in found]
    else:
        device = "cpu" if route == "run" else None
        predict(model, data / "images", out=folder / "out", outputs=["csv", "sr"], num_workers=0, device=device)
        with (folder / "out/predictions.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        got = [
            (row["predicted"], [float(row[f"probability_{name}"]) for name in NAMES], row["prediction_set"].split("|"))
            for row in rows
        ]
        reports = (folder / "out/sr").rglob("*.dcm")
        said = [one for path in reports for one in read_classification_report(path, NAMES)]
        assert sorted(one.predicted for one in said) == sorted(one[0] for one in got)
        assert sorted(one.grades or () for one in said) == sorted((one[2][0], one[2][-1]) for one in got)
    outputs = read_outputs(run_dir).predictions
    expected = softmax(outputs.logits)
    assert len(got) == len(expected)
    probabilities = np.array([row[1] for row in got])
    assert [row[0] for row in got] == [NAMES[grade] for grade in median_grade(probabilities)]
    order, other = (values[np.lexsort(values.round(3).T)] for values in (probabilities, expected))
    np.testing.assert_allclose(order, other, atol=1e-4)
    for _, _, inside in got:
        assert inside == [str(grade) for grade in range(int(inside[0]), int(inside[-1]) + 1)]


def test_explanations_are_of_the_median(graded: tuple[Path, Any], data: Path) -> None:
    opened = movl_monai.open_run(graded[0])
    files = sorted((data / "images").rglob("*.dcm"))[:6]
    network, preprocessing = opened.network(), opened.preprocessing()
    with torch.no_grad():
        logits = network(torch.stack([preprocessing({"image": str(file)})["image"] for file in files]))
    found = opened.explain(files)
    assert [one.predicted for one in found] == [NAMES[grade] for grade in median_grade(softmax(logits.numpy()))]


def test_grades_with_a_gap_stop_the_training(data: Path, tmp_path: Path) -> None:
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"] != "2"]
    table = tmp_path / "manifest.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "path": str(data / row["path"])} for row in rows)
    error = user_error_of(MOVL, "training", ["task_ordinal.json"], dataset_dir=table, output_dir=tmp_path / "out")
    assert isinstance(error, DataError)
    assert "Grade 2 of 0 to 4 has no image" in str(error)
