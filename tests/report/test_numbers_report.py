"""The report of a regression: figures, intervals, page and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from sklearn import metrics as sk

from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.report.entries import NumberReport
from movl_monai.report.html import render_html
from movl_monai.report.options import ReportOptions
from movl_monai.report.report import report_of_outputs
from movl_monai.report.schema import report_schema
from movl_monai.report.several_runs import compare_reports, write_comparison
from movl_monai.report.tasks import REGRESSION
from tests.browser import assert_fits
from tests.report.findings_data import number_outputs
from tests.report.once import assert_once, distinct
from tests.report.test_findings_report import relabeled, written
from tests.report.test_html import Page


@pytest.fixture(scope="module")
def outputs() -> StoredOutputs:
    return number_outputs()


@pytest.fixture(scope="module")
def report(outputs: StoredOutputs) -> dict[str, Any]:
    return dict(report_of_outputs(outputs))


def test_figures_and_intervals_are_those_of_the_images(outputs: StoredOutputs, report: dict[str, Any]) -> None:
    assert not list(Draft202012Validator(report_schema(NumberReport)).iter_errors({**report, "files": {}}))
    parts = {key: part.predictions.labeled() for key, part in outputs.sections().items()}
    section = report["ood"]["scanner_b"]
    labels, given = parts["ood:scanner_b"].labels, parts["ood:scanner_b"].logits[:, 0]
    assert section["mae"] == pytest.approx(sk.mean_absolute_error(labels, given), abs=1e-9)
    assert section["r2"] == pytest.approx(sk.r2_score(labels, given), abs=1e-9)
    assert section["intervals"]["mae"][0] < section["mae"] < section["intervals"]["mae"][1]
    entry = report["number_intervals"]
    assert entry["calibrated_on"]["split"] == "calibration"
    held = np.abs(given - labels) <= entry["half_width"]
    assert entry["sections"]["ood:scanner_b"]["coverage"] == held.mean()


def test_the_page_states_each_number_once_and_fits(report: dict[str, Any], tmp_path: Path) -> None:
    complete = {**report, "files": {}}
    changed = distinct(complete)
    assert assert_once(changed, render_html(changed, {})) > 50
    assert_fits(render_html(complete, {}), tmp_path)
    assert f"{report['id']['mae']:.3f} mean absolute error of age" in Page(render_html(complete, {})).text


def test_runs_are_compared_and_a_smaller_error_is_better(outputs: StoredOutputs, tmp_path: Path) -> None:
    worse = written(number_outputs(noise=12.0), tmp_path / "worse" / "evaluation")
    better = written(outputs, tmp_path / "better" / "evaluation")
    compared = compare_reports([worse, better], rounds=50)
    entry = compared["differences"]["better"]["sections"]["id"]["mae"]
    assert entry["difference"] == pytest.approx(entry["a"] - entry["b"])
    assert entry["interval"][1] < 0
    assert "clearly better" in write_comparison([worse, better], tmp_path / "page").read_text(encoding="utf-8")
    judged = REGRESSION.judged(better, id_domain="id", figures=REGRESSION.figures)
    drawn = judged["id"].draws(judged["id"].groups(), metrics=("mae", "r2"), rounds=5, seed=0)
    assert drawn["mae"][0] == pytest.approx(compared["reports"]["better"]["id"]["mae"])


def test_equal_or_unknown_numbers_are_marked_gaps(outputs: StoredOutputs) -> None:
    labels = outputs.predictions.labels
    for given in (np.where(np.isnan(labels), np.nan, 50.0), np.full(labels.shape, np.nan)):
        report = report_of_outputs(relabeled(outputs, given))
        assert report["id"]["r2"] is None
        assert any("No value for" in note for note in report["id"]["notes"])
        render_html({**report, "files": {}}, {})
    val = outputs.take(np.flatnonzero(np.array(outputs.predictions.splits) != "calibration"))
    assert report_of_outputs(val)["number_intervals"]["calibrated_on"]["split"] == "val"
    few = report_of_outputs(val, options=ReportOptions(rounds=5, alpha=0.001))
    assert few["number_intervals"]["half_width"] is None
