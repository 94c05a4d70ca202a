"""Tests of tasks: one that is added has a report, comparisons, rows and exports, and no module tells tasks by name."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.errors import MovlError
from movl_monai.evaluation.rows import image_rows, results_csv
from movl_monai.metrics.declared import CLASS_FIGURES
from movl_monai.report.classification_task import Classification
from movl_monai.report.html import write_html
from movl_monai.report.several_runs import compare_reports, write_comparison
from movl_monai.report.tasks import TASKS, report_rows, task_named
from tests.report.test_several_runs import NAMES, write_run

PACKAGE = Path(__file__).resolve().parents[2] / "movl_monai"


class Findings(Classification):
    """Any number of classes for each image."""

    name = "findings"
    figures = replace(CLASS_FIGURES, leading=("auroc",), table=("auroc", "brier"))
    row_entries = ("id", "status", "answer", "probabilities")

    def answers(
        self, logits: np.ndarray, features: np.ndarray | None, *, class_names: Any, trust: Any = None
    ) -> list[dict[str, Any]]:
        probabilities = 1 / (1 + np.exp(-logits))
        return [
            {"answer": [name for name, p in zip(class_names, row, strict=True) if p > 0.5], "probabilities": [*row]}
            for row in probabilities.tolist()
        ]


@pytest.fixture(autouse=True)
def findings(monkeypatch: pytest.MonkeyPatch) -> Findings:
    task = Findings()
    monkeypatch.setitem(TASKS, task.name, task)
    return task


def test_added_task_has_a_report_and_comparisons(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, skill=skill, task="findings") for name, skill in (("one", 0.5), ("two", 3.0))]
    page = write_html(runs[1] / "evaluation").read_text(encoding="utf-8")
    compared = compare_reports(runs, rounds=20)
    assert "Evaluation report" in page
    assert compared["task"] == "findings"
    assert list(report_rows(compared["reports"]["two"])[0]) == ["domain", "n", "auroc", "brier"]
    assert compared["differences"]["two"]["sections"]["id"]["auroc"]["difference"] > 0
    text = write_comparison(runs, tmp_path / "compared").read_text(encoding="utf-8")
    assert "better, +" in text
    assert "AUROC" in text
    assert "balanced accuracy here" not in text


def test_added_task_has_its_own_rows(findings: Findings) -> None:
    rows = image_rows(["0a"], [{}], np.array([[1.0, 2.0, -1.0]]), None, class_names=["a", "b", "c"], task=findings)
    table = results_csv(rows, ["a", "b", "c"], task="findings").splitlines()
    assert table[0].startswith("id,status,answer,probability_a,probability_b,probability_c")
    assert table[1].startswith("0a,ok,a|b,0.73")


def test_an_unknown_task_is_an_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", skill=1.0, task="captions")
    with pytest.raises(MovlError, match="no task 'captions'"):
        compare_reports([run, write_run(tmp_path / "other", skill=1.0)])
    assert json.loads((run / "evaluation/report.json").read_text())["classes"] == NAMES
    with pytest.raises(MovlError, match="classification, segmentation, .*, findings"):
        task_named("captions")


def test_no_module_tells_tasks_apart_by_name() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and "task" in ast.unparse(node.left)
        and any(isinstance(other, ast.Constant) and other.value in TASKS for other in node.comparators)
    ]
    assert not found
