"""Tests of the declared figures: one declaration reaches the report, its page, its tables and the comparison."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from movl_monai.evaluation import build_report
from movl_monai.metrics import classification_metrics as metrics
from movl_monai.metrics.declared import DECLARED, ORDINAL_FIGURES, Declared, FigureName, Metric, MetricFigures, ratio
from movl_monai.metrics.paired import compare_outputs
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.report.html import render_html
from movl_monai.report.report_tables import report_tables
from tests.evaluation.data import random_predictions

NAMES = ["a", "b", "c"]
ERROR_RATE = Declared(
    title="Error rate",
    better="↓",
    definition="share of wrong images",
    function=lambda images: 1 - metrics.accuracy(images.labels, images.logits),
    weighted=lambda sums: 1 - ratio(np.trace(sums.matrix), sums.total),
)


def test_added_metric_is_in_report_page_and_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECLARED, "error_rate", ERROR_RATE)  # type: ignore[misc]
    report = build_report(random_predictions(), class_names=NAMES, rounds=20)
    section = report["id"]
    low, high = section["intervals"]["accuracy"]
    assert section["error_rate"] == pytest.approx(1 - section["accuracy"])
    assert section["intervals"]["error_rate"] == pytest.approx([1 - high, 1 - low])
    (row,) = (
        row for row in report_tables(report)["figures"] if (row["section"], row["figure"]) == ("id", "error_rate")
    )
    assert (row["value"], row["low"]) == (section["error_rate"], section["intervals"]["error_rate"][0])
    assert "Error rate" in render_html({**report, "files": {}}, {})


def test_added_metric_is_in_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECLARED, "error_rate", ERROR_RATE)  # type: ignore[misc]
    own, other = random_predictions(), random_predictions()
    other.logits = -other.logits
    runs = [StoredOutputs(predictions=one, class_names=NAMES) for one in (own, other)]
    found = compare_outputs(*runs, rounds=20)["sections"]["ood:scanner_b"]
    assert found["error_rate"]["difference"] == pytest.approx(-found["accuracy"]["difference"])
    assert found["accuracy"]["difference"] != 0


def test_types_name_every_declared_figure() -> None:
    assert set(DECLARED) == set(get_args(FigureName))
    assert set(ORDINAL_FIGURES.declared) == set(MetricFigures.__annotations__) > set(DECLARED)
    assert {name for name, figure in DECLARED.items() if figure.weighted is not None} == set(get_args(Metric))
