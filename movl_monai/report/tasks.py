"""The tasks by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from movl_monai.errors import MovlError
from movl_monai.report.classification_task import CLASSIFICATION
from movl_monai.report.multilabel_task import MULTILABEL
from movl_monai.report.ordinal_task import ORDINAL
from movl_monai.report.regression_task import REGRESSION
from movl_monai.report.segmentation_task import SEGMENTATION
from movl_monai.report.table import figure_rows
from movl_monai.report.task import Task

__all__ = [
    "CLASSIFICATION",
    "ORDINAL",
    "REGRESSION",
    "MULTILABEL",
    "SEGMENTATION",
    "TASKS",
    "Task",
    "report_rows",
    "task_in",
    "task_named",
    "task_of",
]

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, SEGMENTATION, ORDINAL, MULTILABEL, REGRESSION)}
"""All tasks by name."""


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        MovlError: if there is none of this name.

    Example:
        >>> task_named("segmentation").unit
        'cases'
    """
    if name not in TASKS:
        raise MovlError(f"There is no task '{name}'; this version of movl_monai knows {', '.join(TASKS)}.")
    return TASKS[name]


def task_of(report: Mapping[str, Any]) -> Task:
    """Return the task of a report; one that names none is of a classification."""
    return task_named(str(report.get("task", CLASSIFICATION.name)))


def report_rows(report: Mapping[str, Any], *, digits: int = 3) -> list[dict[str, Any]]:
    """Return one table row per section of a report (ID, each OOD domain, val) with its figures and intervals."""
    return figure_rows(report, task_of(report).figures.table, digits=digits)


def task_in(evaluation: Path) -> Task:
    """Return the task of the results in a folder.

    Args:
        evaluation: folder of an evaluation.

    Raises:
        MovlError: if it holds the results of no task.
    """
    for task in reversed(TASKS.values()):
        if (evaluation / task.results).is_file():
            sharing = [one for one in TASKS.values() if one.results == task.results]
            return sharing[0] if len(sharing) == 1 else _reported(evaluation, sharing[0])
    known = dict.fromkeys(task.results for task in TASKS.values())
    raise MovlError(
        f"The evaluation wrote neither {' nor '.join(known)} below output_dir, so that there is nothing to "
        "compare; check the handlers of evaluate.json."
    )


def _reported(evaluation: Path, default: Task) -> Task:
    """Return the task that the report of an evaluation names; the default without a report."""
    try:
        return task_of(json.loads((evaluation / "report.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return default
