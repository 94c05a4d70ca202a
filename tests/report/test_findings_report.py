"""The report of several findings: figures, trust, page, comparisons, and marked gaps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scipy.special import expit

from movl_monai.metrics.calibration import calibration_report
from movl_monai.metrics.findings import FindingFigures, finding_labels
from movl_monai.metrics.selective import abstention_report
from movl_monai.metrics.stored.outputs import StoredOutputs, write_outputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.report.entries import FindingReport
from movl_monai.report.html import render_html
from movl_monai.report.rebuild import rebuild_report
from movl_monai.report.report import report_of_outputs, write_report
from movl_monai.report.schema import report_schema
from movl_monai.report.several_runs import compare_reports, write_comparison
from movl_monai.report.tasks import MULTILABEL, task_in
from tests.browser import assert_fits
from tests.report.findings_data import FINDINGS, finding_outputs
from tests.report.once import assert_once, distinct
from tests.report.test_html import Page


@pytest.fixture(scope="module")
def outputs() -> StoredOutputs:
    return finding_outputs()


@pytest.fixture(scope="module")
def report(outputs: StoredOutputs) -> dict[str, Any]:
    return dict(report_of_outputs(outputs))


def relabeled(outputs: StoredOutputs, labels: np.ndarray) -> StoredOutputs:
    given = outputs.predictions
    columns = {name: getattr(given, name) for name in ("ids", "logits", "splits", "domains", "patients", "patient_ids")}
    return replace(outputs, predictions=Predictions(labels=labels, **columns))


def written(outputs: StoredOutputs, folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_outputs(folder / "outputs.npz", outputs)
    write_report(folder, report_of_outputs(outputs), outputs.predictions)
    return folder


def test_figures_are_those_of_the_section_at_thresholds_of_val(outputs: StoredOutputs, report: dict[str, Any]) -> None:
    assert not list(Draft202012Validator(report_schema(FindingReport)).iter_errors({**report, "files": {}}))
    limits = [report["findings"][name]["threshold"]["threshold"] for name in FINDINGS]
    for key, part in outputs.sections().items():
        found = {"id": report["id"], "val": report["val"], "ood:scanner_b": report["ood"]["scanner_b"]}.get(key)
        if found is None:
            continue
        known = part.predictions.labeled()
        figures = FindingFigures(known.labels, known.logits, thresholds=limits)
        for name, value in figures(np.ones((len(known), 1))).items():
            assert found[name] == pytest.approx(value[0], abs=1e-12)
            assert found["intervals"][name][0] <= found[name] <= found["intervals"][name][1]
        for index, name in enumerate(FINDINGS):
            truth = known.labels[:, index]
            called = expit(known.logits[:, index]) >= limits[index]
            rates = found["per_class"][name]
            assert (rates["n"], rates["n_positive"]) == ((~np.isnan(truth)).sum(), (truth == 1).sum())
            assert rates["sensitivity"] == pytest.approx(called[truth == 1].mean(), abs=1e-12)
            assert found["cooccurrence"]["predicted"][index][index] == called[~np.isnan(truth)].sum()


def test_trust_in_a_finding_is_that_of_two_classes(outputs: StoredOutputs, report: dict[str, Any]) -> None:
    entry = report["findings"]["Mass"]
    limit = entry["threshold"]["threshold"]
    views, shifted = {}, {}
    for key, part in report_sections(outputs).items():
        known = part.predictions.take(np.flatnonzero(~np.isnan(finding_labels(part.predictions)[:, 1])))
        facts = {"ids": known.ids, "labels": known.labels[:, 1].astype(int), "patients": known.patients}
        logits = np.stack([np.zeros(len(known)), known.logits[:, 1]], axis=1)
        views[key] = Predictions(logits=logits, **facts)
        shifted[key] = Predictions(logits=logits - [0, np.log(limit / (1 - limit))], **facts)
    expected = calibration_report(views, rounds=5)
    assert entry["calibration"]["temperature"] == pytest.approx(expected["temperature"], abs=1e-9)
    assert entry["calibration"]["sections"]["id"]["after"] == pytest.approx(expected["sections"]["id"]["after"])
    risk = abstention_report(shifted, rounds=5)
    assert entry["abstention"]["threshold"] == pytest.approx(risk["threshold"], abs=1e-9)


def report_sections(outputs: StoredOutputs) -> dict[str, StoredOutputs]:
    return {key: part for key, part in outputs.sections().items() if key in ("id", "ood:scanner_b", "val")}


def test_images_without_labels_change_no_figure(outputs: StoredOutputs, report: dict[str, Any]) -> None:
    labels = outputs.predictions.labels.copy()
    labels[3 * 60 : 4 * 60 : 3] = np.nan  # of the internal test
    fewer = report_of_outputs(relabeled(outputs, labels))
    kept = outputs.take([row for row in range(len(outputs)) if not np.isnan(labels[row]).all() or row >= 5 * 60])
    alone = report_of_outputs(kept)
    ignored = {"n_unlabeled", "notes"}
    for one, other in ((fewer["id"], alone["id"]), (fewer["val"], report["val"])):
        assert {k: v for k, v in one.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored
        }
    assert fewer["id"]["n_unlabeled"] == 20


def test_the_page_states_each_number_once_and_fits(report: dict[str, Any], tmp_path: Path) -> None:
    complete = {**report, "files": {}}
    changed = distinct(complete)
    del changed["findings"]["Mass"]  # of three equally distant numbers one is the mean
    assert assert_once(changed, render_html(changed, {})) > 100
    assert_fits(render_html(complete, {}), tmp_path)
    text = Page(render_html(complete, {})).text
    assert f"{report['id']['auroc']:.3f} macro AUROC" in text
    assert "Each finding" in text


def test_several_runs_are_compared_in_pairs(outputs: StoredOutputs, tmp_path: Path) -> None:
    worse = written(finding_outputs(skill=0.2), tmp_path / "worse" / "evaluation")
    better = written(outputs, tmp_path / "better" / "evaluation")
    compared = compare_reports([worse, better], rounds=50)
    entry = compared["differences"]["better"]
    for key, section in entry["sections"].items():
        own = [report["id"] if key == "id" else report["ood"]["scanner_b"] for report in compared["reports"].values()]
        assert section["auroc"]["difference"] == pytest.approx(own[1]["auroc"] - own[0]["auroc"], abs=1e-12)
    assert "tests" not in entry
    assert "clearly better" in write_comparison([worse, better], tmp_path / "page").read_text(encoding="utf-8")
    assert task_in(better) is MULTILABEL
    judged = [MULTILABEL.judged(folder, id_domain="id", figures=MULTILABEL.figures) for folder in (worse, better)]
    assert list(judged[0]) == ["id", "scanner_b"]
    assert judged[0]["id"].truth == judged[1]["id"].truth
    drawn = judged[1]["id"].draws(judged[1]["id"].groups(), metrics=MULTILABEL.figures.compared, rounds=5, seed=0)
    assert drawn["auroc"][0] == pytest.approx(compared["reports"]["better"]["id"]["auroc"], abs=1e-12)
    before = json.loads((better / "report.json").read_text())
    assert rebuild_report(better)["id"] == before["id"]


def test_findings_without_positives_are_marked_gaps(outputs: StoredOutputs, tmp_path: Path) -> None:
    labels = outputs.predictions.labels.copy()
    labels[:, 1] = 0
    labels[:, 2] = np.nan
    folder = written(relabeled(outputs, labels), tmp_path / "gaps")
    report = json.loads((folder / "report.json").read_text())
    assert report["findings"]["Mass"]["threshold"]["threshold"] is None
    assert report["id"]["per_class"]["Nodule"]["n"] == 0
    assert report["id"]["auroc"] == report["id"]["per_class"]["Effusion"]["auroc"]
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "Without a value, and not in the mean: Mass, Nodule." in text
    assert "It never answers for Mass, Nodule: no threshold could be chosen on val." in text
    none = relabeled(outputs, np.full(labels.shape, np.nan))
    assert report_of_outputs(none)["id"]["auroc"] is None
    render_html({**report_of_outputs(none), "files": {}}, {})
