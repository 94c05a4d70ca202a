"""Rows of predictions for images, cases and files, and the table that every command writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.data.decode import fault_of
from movl_monai.metrics.classification_metrics import softmax

__all__ = [
    "NO_ANSWER_OUTSIDE",
    "NO_ANSWER_UNSURE",
    "answer_of",
    "classification_rows",
    "failed_row",
    "no_answer",
    "recordable",
    "results_csv",
]

NO_ANSWER_OUTSIDE = "No answer: unlike the training images"
NO_ANSWER_UNSURE = "No answer: not sure enough"
Row = dict[str, Any]
OK, FAILED, SKIPPED = "ok", "failed", "skipped"
# entries of the technical record that go into a row
_FACTS = ("format", "modality", "frame", "rows", "columns")
_ALWAYS = ("id", "status", "reason", "detail")
_OVER_CLASSES = {"probabilities": "probability_", "calibrated": "calibrated_"}
# columns of a classifier's table; always all of them, in this order
_CLASSIFIED = (
    *(*_ALWAYS, "answer", *_FACTS, "predicted", "predicted_number", "probabilities", "calibrated"),
    *("ood_score", "outside", "abstain", "prediction_set"),
)


def no_answer(*, outside: bool | None, abstain: bool | None) -> str:
    """Return the sentence that replaces an answer, "" if the model answers.

    Args:
        outside: whether the image is out-of-distribution; None if unknown.
        abstain: whether the model abstains; None if unknown.

    Example:
        >>> no_answer(outside=True, abstain=True), no_answer(outside=None, abstain=False)
        ('No answer: unlike the training images', '')
    """
    if outside:
        return NO_ANSWER_OUTSIDE
    return NO_ANSWER_UNSURE if abstain else ""


def answer_of(predicted: str, *, outside: bool | None, abstain: bool | None) -> str:
    """Return the predicted class, or the sentence of :func:`no_answer` if the model abstains."""
    return no_answer(outside=outside, abstain=abstain) or predicted


def failed_row(item_id: str, reason: str, detail: str = "", *, status: str = FAILED) -> Row:
    """Return the row of an item that could not be predicted (``failed``), or was not meant to be (``skipped``)."""
    return {"id": item_id, "status": status, "reason": reason, "detail": detail}


def recordable(row: Row) -> Row:
    """Return a row that JSON can hold: the row itself, or a failed row in its place."""
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return failed_row(row["id"], "unexpected_error", type(error).__name__)
    return row


def classification_rows(
    ids: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    logits: np.ndarray,
    features: np.ndarray | None,
    *,
    class_names: Sequence[str],
    trust: Any = None,
) -> list[Row]:
    """Return the rows of classified images.

    Args:
        ids: ids of N images.
        records: technical facts of each image.
        logits: (N, C).
        features: (N, F), the input of the head; None if unknown.
        class_names: C names.
        trust: a :class:`~movl_monai.evaluation.trust_record.TrustRecord`, or None.

    Returns:
        ``id``, ``status``, ``reason``, ``answer`` (the class, or a sentence with the reason why there is none),
        ``predicted`` (the most probable class, also if the model abstains) and its ``predicted_number`` from 0, which
        pictures show if the name is not legible, ``probabilities`` (C) of the raw logits, and from the trust record,
        None if unknown: ``calibrated`` (C; None if the model abstains), ``ood_score``, ``outside``, ``abstain``,
        ``prediction_set`` (names).

    Example:
        >>> rows = classification_rows(["0a"], [{}], np.array([[0.0, 0.0]]), None, class_names=["no", "yes"])
        >>> rows[0]["answer"], rows[0]["probabilities"], rows[0]["outside"]
        ('no', [0.5, 0.5], None)
    """
    values = np.asarray(logits, dtype=np.float64)
    probabilities = softmax(values)
    trusted = None if trust is None else trust.apply(values, features)

    def of(name: str, number: int) -> Any:
        column = None if trusted is None else getattr(trusted, name)
        return None if column is None else column[number].tolist()

    rows: list[Row] = []
    for number, (image_id, record) in enumerate(zip(ids, records, strict=True)):
        predicted, chosen = class_names[int(values[number].argmax())], of("sets", number)
        marks = {name: of(name, number) for name in ("outside", "abstain")}
        rows.append(
            {
                "id": image_id,
                "status": OK,
                "reason": "",
                "answer": answer_of(predicted, **marks),
                **{name: record[name] for name in _FACTS if record.get(name) not in (None, "")},
                "predicted": predicted,
                "predicted_number": int(values[number].argmax()),
                "probabilities": probabilities[number].tolist(),
                # the temperature was fitted for images that the model answers
                "calibrated": None if no_answer(**marks) else of("probabilities", number),
                "ood_score": of("ood_scores", number),
                **marks,
                "prediction_set": None
                if chosen is None
                else [name for name, inside in zip(class_names, chosen, strict=True) if inside],
            }
        )
    return rows


def results_csv(rows: Sequence[Row], class_names: Sequence[str], *, task: str = "classification") -> str:
    """Return the CSV text of rows; numbers survive writing and reading unchanged.

    A classifier's table always has the same columns in the same order, whichever command writes it; a list over classes
    has one column per class. Other columns are left out if no row fills them. So are those of a segmenter, except
    ``id``, ``status`` and ``reason``.
    """
    flat = [_cells(row, class_names) for row in rows]
    fixed = list(_header(class_names)) if task == "classification" else list(_ALWAYS[:3])
    columns = dict.fromkeys([*fixed, *_ALWAYS, *(name for row in flat for name in row)])
    filled = [name for name in columns if name in fixed or any(row.get(name) not in (None, "") for row in flat)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, filled, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return stream.getvalue()


def _header(class_names: Sequence[str]) -> Iterator[str]:
    for name in _CLASSIFIED:
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
