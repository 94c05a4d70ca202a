"""Rows of predictions for images, cases and files, and the table that every command writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from movl_monai.data.decode import fault_of
from movl_monai.data.series import HARMLESS
from movl_monai.errors import RESEARCH_USE
from movl_monai.evaluation.mask_files import case_amounts, flags_of
from movl_monai.files import to_json
from movl_monai.report.classification_task import NO_ANSWER_OUTSIDE, NO_ANSWER_UNSURE, answer_of, no_answer
from movl_monai.report.tasks import CLASSIFICATION, Task, task_named

if TYPE_CHECKING:
    from movl_monai.data import FileOutcome

__all__ = [
    "NO_ANSWER_OUTSIDE",
    "NO_ANSWER_UNSURE",
    "answer_of",
    "case_row",
    "failed_row",
    "image_rows",
    "left_out_row",
    "no_answer",
    "recordable",
    "results_csv",
    "results_json",
]

Row = dict[str, Any]
OK, FAILED, SKIPPED = "ok", "failed", "skipped"
# entries of the technical record that go into a row
_FACTS = ("format", "modality", "frame", "rows", "columns", "instances", "unreadable")
_CASE_FACTS = ("format", "modality")
_ALWAYS = ("id", "status", "reason", "detail")
_NAMED = ("path", "label")
_OVER_CLASSES = {
    "probabilities": "probability_",
    "calibrated": "calibrated_",
    "positive": "positive_",
    "prediction_sets": "prediction_set_",
}


def failed_row(item_id: str, reason: str, detail: str = "", *, status: str = FAILED) -> Row:
    """Return the row of an item that could not be predicted (``failed``), or was not meant to be (``skipped``)."""
    return {"id": item_id, "status": status, "reason": reason, "detail": detail}


def left_out_row(file: FileOutcome) -> Row:
    """Return the row of a file that could not be read, or that is not an image."""
    status = SKIPPED if file.reason in HARMLESS else FAILED
    return failed_row(file.id, file.reason, file.detail, status=status)


def recordable(row: Row) -> Row:
    """Return a row that JSON can hold: the row itself, or a failed row in its place."""
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return failed_row(row["id"], "unexpected_error", type(error).__name__)
    return row


def image_rows(
    ids: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    logits: np.ndarray,
    features: np.ndarray | None,
    *,
    class_names: Sequence[str],
    trust: Any = None,
    task: Task = CLASSIFICATION,
) -> list[Row]:
    """Return the rows of predicted images.

    Args:
        ids: ids of N images.
        records: technical facts of each image.
        logits: (N, C).
        features: (N, F), the input of the head; None if unknown.
        class_names: C names.
        trust: a :class:`~movl_monai.evaluation.trust_record.TrustRecord`, or None.
        task: task of the network, not one per pixel.

    Returns:
        ``id``, ``status``, ``reason``, technical facts, and the entries of the task's answers.

    Example:
        >>> rows = image_rows(["0a"], [{}], np.array([[0.0, 0.0]]), None, class_names=["no", "yes"])
        >>> rows[0]["answer"], rows[0]["probabilities"], rows[0]["outside"]
        ('no', [0.5, 0.5], None)
    """
    rows = []
    answers = task.answers(logits, features, class_names=class_names, trust=trust)
    for image_id, record, found in zip(ids, records, answers, strict=True):
        facts = {name: record[name] for name in _FACTS if record.get(name) not in (None, "")}
        rows.append({"id": image_id, "status": OK, "reason": "", "answer": found["answer"]} | facts | found)
    return rows


def case_row(
    case_id: str, classes: np.ndarray, records: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Row:
    """Return the row of a segmented image or volume.

    Args:
        case_id: id of the case.
        classes: (rows, columns) of an image, or (rows, columns, slices).
        records: technical facts of each image.
        class_names: names, the background first.

    Returns:
        ``id``, ``status``, ``reason``, technical facts, ``images``, flags if there are any, and the amounts.
    """
    return {
        "id": case_id,
        "status": OK,
        "reason": "",
        **{name: records[0][name] for name in _CASE_FACTS if records[0].get(name)},
        "images": len(records),
        **({"flags": flags} if (flags := flags_of(records)) else {}),
        **case_amounts(classes, records, class_names),
    }


def results_csv(rows: Sequence[Row], class_names: Sequence[str], *, task: str = CLASSIFICATION.name) -> str:
    """Return the CSV text of rows; numbers survive writing and reading unchanged.

    A task's table always has its own columns in the same order, whichever command writes it; a list over classes has
    one column per class. Other columns are left out if no row fills them.
    """
    flat = [_cells(row, class_names) for row in rows]
    fixed = list(_header(task_named(task).row_entries, class_names))
    columns = dict.fromkeys([*fixed, *_ALWAYS, *(name for row in flat for name in row)])
    filled = [name for name in columns if name in fixed or any(row.get(name) not in (None, "") for row in flat)]
    filled.sort(key=lambda name: (name != "id", name not in _NAMED))  # what names an image stands beside its id
    stream = io.StringIO()
    writer = csv.DictWriter(stream, filled, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return stream.getvalue()


def results_json(
    rows: Sequence[Row], class_names: Sequence[str], *, model: Mapping[str, str], task: str = CLASSIFICATION.name
) -> str:
    """Return the rows as JSON.

    Args:
        rows: as for :func:`results_csv`.
        class_names: C names.
        model: ``name`` and ``version`` of the bundle, ``backbone`` and ``checkpoint_sha256``.
        task: name of the task.
    """
    content = {"format": 1, "use": RESEARCH_USE, "task": task, "class_names": list(class_names)}
    return to_json({**content, "model": dict(model), "results": list(rows)})


def _header(entries: Sequence[str], class_names: Sequence[str]) -> Iterator[str]:
    for name in entries:
        prefix = _OVER_CLASSES.get(name)
        yield from [name] if prefix is None else (f"{prefix}{label}" for label in class_names)


def _cells(row: Row, class_names: Sequence[str]) -> Row:
    try:
        return {name: _cell(value) for name, value in _flat(row, class_names).items()}
    except Exception as error:  # the other rows are still written
        return failed_row(row["id"], *fault_of(error))


def _flat(row: Row, class_names: Sequence[str]) -> Row:
    flat: Row = {}
    for name, value in row.items():
        prefix = _OVER_CLASSES.get(name)
        if prefix is None:
            flat[name] = value
        elif value is not None:
            flat |= {f"{prefix}{label}": number for label, number in zip(class_names, value, strict=True)}
    return flat


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(value)
    return "|".join(str(part) for part in value) if isinstance(value, (list, tuple)) else value
