"""Tests of the tables."""

from __future__ import annotations

import csv
import io

import pytest

from movl_monai.evaluation import build_report, render_table, report_rows
from tests.evaluation.data import random_predictions

ROWS = [{"arm": "movl | kl", "n": 12, "auroc": 0.91239}, {"arm": "lp", "auroc": None, "extra": "x"}]


def test_markdown_has_one_row_per_result_and_escapes_bars() -> None:
    assert render_table(ROWS, style="markdown").splitlines() == [
        "| arm | n | auroc | extra |",
        "| --- | ---: | ---: | --- |",
        r"| movl \| kl | 12 | 0.912 | - |",
        "| lp | - | - | x |",
    ]


def test_csv_keeps_all_digits_and_leaves_missing_values_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(render_table(ROWS, columns=["arm", "auroc"], style="csv"))))
    assert rows == [{"arm": "movl | kl", "auroc": "0.91239"}, {"arm": "lp", "auroc": ""}]


def test_text_aligns_columns() -> None:
    lines = render_table(ROWS, columns=["arm", "n", "auroc"], digits=2).splitlines()
    assert lines == ["arm         n  auroc", "movl | kl  12   0.91", "lp          -      -"]


def test_no_rows_give_the_headings() -> None:
    assert render_table([], columns=["arm"]) == "arm\n"


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="style must be 'markdown', 'csv' or 'text', got 'html'"):
        render_table(ROWS, style="html")


def test_report_rows_give_every_section_once() -> None:
    rows = report_rows(build_report(random_predictions(), class_names=["a", "b", "c"], rounds=5))
    assert [row["domain"] for row in rows] == ["id", "ood: hospital_c", "ood: scanner_b", "val"]
    assert all("[" in row["accuracy"] for row in rows)
