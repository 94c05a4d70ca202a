"""A report of grades: its figures, schema, page, tables, rows and trust record."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from sklearn import metrics as sk

from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, StoredOutputs, report_of_outputs, write_outputs, write_report
from movl_monai.evaluation.rows import image_rows, results_csv
from movl_monai.evaluation.trust_record import TrustRecord, decode_trust, trust_record, write_trust
from movl_monai.metrics.classification_metrics import median_grade, softmax
from movl_monai.metrics.stored.outputs import read_outputs
from movl_monai.report.cards import card_sections
from movl_monai.report.checklists import fill_checklist
from movl_monai.report.entries import GradeReport
from movl_monai.report.html import write_html
from movl_monai.report.schema import report_schema
from movl_monai.report.several_runs import compare_reports, write_comparison
from movl_monai.report.tasks import ORDINAL, task_in
from tests.browser import assert_fits, complaints
from tests.report.test_html import Page

NAMES = ["0", "1", "2", "3", "4"]
COUNT = 240


def write_grades(folder: Path, *, skill: float = 1.5) -> StoredOutputs:
    """An evaluated run of grades; all runs have the same images."""
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 5, COUNT)
    seen = labels + draw.normal(size=COUNT) / skill
    logits = -((seen[:, None] - np.arange(5)) ** 2) / 2 + draw.normal(size=(COUNT, 5))
    ids = [f"{number:012x}" for number in range(COUNT)]
    patients = [f"{number // 2:012x}" for number in range(COUNT)]
    outputs = StoredOutputs(
        predictions=Predictions(
            ids=ids,
            logits=logits,
            labels=labels,
            splits=[("train", "val", "test", "test")[number // 2 % 4] for number in range(COUNT)],
            domains=["scanner_b" if number % 16 > 11 else "id" for number in range(COUNT)],
            patients=patients,
            patient_ids=patients,
        ),
        class_names=NAMES,
        features=draw.normal(size=(COUNT, 4)).astype(np.float32),
        groups={"sex": ["FM"[number % 2] for number in range(COUNT)]},
        facts={"options": {"rounds": 40}, "run": {"seed": 0, "strategy": [{"name": folder.name}]}},
        task="ordinal",
    )
    target = folder / "evaluation"
    target.mkdir(parents=True)
    write_outputs(target / "outputs.npz", outputs)
    write_report(target, report_of_outputs(outputs), outputs.predictions)
    return outputs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoredOutputs, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("grades") / "probe"
    outputs = write_grades(folder)
    return folder, outputs, json.loads((folder / "evaluation/report.json").read_text())


def test_figures_are_those_of_the_median(run: Any) -> None:
    folder, outputs, report = run
    part = outputs.sections()["id"].predictions
    predicted = median_grade(softmax(part.logits))
    kappa = sk.cohen_kappa_score(part.labels, predicted, weights="quadratic")
    assert report["id"]["quadratic_kappa"] == pytest.approx(kappa, abs=1e-9)
    low, high = report["id"]["intervals"]["quadratic_kappa"]
    assert low < kappa < high
    assert report["id"]["mean_absolute_error"] == pytest.approx(np.abs(part.labels - predicted).mean())
    assert sum(report["id"]["grades"]["distances"].values()) == len(part)
    with (folder / "evaluation/predictions.csv").open() as stream:
        rows = {row["id"]: row["predicted"] for row in csv.DictReader(stream)}
    assert [rows[name] for name in part.ids] == [NAMES[grade] for grade in predicted]
    assert task_in(folder / "evaluation") is ORDINAL
    assert report["groups"]["sex"]["gaps"]["id"]["metric"] == "quadratic_kappa"


def test_report_of_grades_fits_its_schema(run: Any) -> None:
    schema = report_schema(GradeReport)
    Draft202012Validator.check_schema(schema)
    assert not list(Draft202012Validator(schema).iter_errors(run[2]))
    lacking = {**run[2], "id": {key: value for key, value in run[2]["id"].items() if key != "within_one"}}
    assert list(Draft202012Validator(schema).iter_errors(lacking))


def test_page_of_grades_leads_with_kappa_and_fits_every_screen(run: Any, tmp_path: Path) -> None:
    folder, _, report = run
    path = write_html(folder / "evaluation")
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    assert f"{report['id']['quadratic_kappa']:.3f} quadratic kappa" in page.text
    assert f"{100 * report['id']['within_one']:.1f}" in page.text
    for words in ("within one grade", "4 or more", "Too low", "ranges of grades", "The predicted grade is the median"):
        assert words in page.text
    assert_fits(content, tmp_path)
    assert complaints(path, tmp_path) == []


def test_cards_and_checklists_speak_of_grades(run: Any) -> None:
    facts = card_sections(run[2])["facts"]
    assert facts["task"] == "Grading of images as 0, 1, 2, 3, 4."
    assert "median grade" in facts["output"]
    assert "Within one grade" in facts["internal"]
    assert any("Quadratic kappa" in one.text for one in fill_checklist(run[2], "claim"))


def test_tables_have_every_grade_and_distance(run: Any) -> None:
    tables = ORDINAL.tables(run[2])
    ids = [row for row in tables["grade_or_more"] if row["section"] == "id"]
    assert [row["grade"] for row in ids if row["figure"] == "auroc"] == NAMES[1:]
    assert [row["distance"] for row in tables["grade_distances"] if row["section"] == "id"][::4] == ["-4", "0", "+4"]
    assert {row["class"] for row in tables["operating_points"]} == {f"{name} or more" for name in NAMES[1:]}


def test_trust_record_keeps_ranges_and_the_confidence_of_the_median(run: Any, tmp_path: Path) -> None:
    _, outputs, report = run
    record = trust_record(outputs, report, checkpoint_sha256="0" * 64)
    write_trust(tmp_path / "trust.pt", record)
    again = decode_trust((tmp_path / "trust.pt").read_bytes(), "0" * 64)
    assert again.task == "ordinal"
    assert again.conformal is not None
    assert again.conformal.method == "ordinal_aps"
    part = outputs.sections()["id"]
    found = again.apply(part.predictions.logits, part.features)
    covered = found.sets[np.arange(len(part)), part.predictions.labels].mean()
    assert covered == pytest.approx(report["conformal"]["methods"]["ordinal_aps"]["sections"]["id"]["coverage"])
    sure = TrustRecord(checkpoint_sha256="0" * 64, class_names=NAMES, least_confidence=0.35, task="ordinal")
    logits = np.log([[0.4, 0.3, 0.3, 1e-9, 1e-9]])  # the median has 0.3, the most probable grade 0.4
    assert sure.apply(logits).abstain.tolist() == [True]


def test_rows_of_grades_have_the_median_and_a_range(run: Any) -> None:
    _, outputs, report = run
    trust = trust_record(outputs, report, checkpoint_sha256="0" * 64)
    part = outputs.sections()["id"]
    rows = image_rows(
        part.predictions.ids,
        [{}] * len(part),
        part.predictions.logits,
        part.features,
        class_names=NAMES,
        trust=trust,
        task=ORDINAL,
    )
    median = median_grade(softmax(part.predictions.logits))
    assert [row["predicted_number"] for row in rows] == median.tolist()
    for row in rows:
        grades = [int(name) for name in row["prediction_set"]]
        assert grades == list(range(grades[0], grades[-1] + 1))
        assert row["predicted_number"] in grades
        given = row["calibrated"] or row["probabilities"]
        assert row["expected_grade"] == pytest.approx(sum(grade * share for grade, share in enumerate(given)))
    header = results_csv(rows, NAMES, task="ordinal").splitlines()[0]
    assert header.endswith("prediction_set,expected_grade")


def test_runs_of_grades_are_compared_by_kappa(run: Any, tmp_path: Path) -> None:
    write_grades(tmp_path / "worse", skill=0.5)
    folders = [tmp_path / "worse", run[0]]
    found = compare_reports(folders, rounds=40)["differences"]["probe"]["sections"]["id"]
    assert found["quadratic_kappa"]["difference"] > 0
    assert found["mean_absolute_error"]["difference"] < 0
    assert found["quadratic_kappa"]["a"] == pytest.approx(run[2]["id"]["quadratic_kappa"])
    text = write_comparison(folders, tmp_path / "compared").read_text(encoding="utf-8")
    assert "probe clearly better" in text
    judged = ORDINAL.judged(run[0] / "evaluation", id_domain="id", figures=ORDINAL.figures)["id"]
    figure = judged.figure("quadratic_kappa")
    assert figure is not None
    assert float(figure(np.ones((len(judged), 1)))[0]) == pytest.approx(run[2]["id"]["quadratic_kappa"], abs=1e-9)


def test_grades_cannot_be_compared_with_classes(run: Any, tmp_path: Path) -> None:
    stored = read_outputs(run[0])
    classes = StoredOutputs(predictions=stored.predictions, class_names=NAMES, task="classification")
    write_outputs(tmp_path / "outputs.npz", classes)
    with pytest.raises(MovlError, match="different tasks, ordinal and classification"):
        ORDINAL.compare(run[0], tmp_path, report={}, name="classes", rounds=5)
