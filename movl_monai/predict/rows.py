"""What is said about each image or case: rows, and their tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.evaluation.metrics import softmax

__all__ = ["classification_rows", "failed_row", "results_csv"]

Row = dict[str, Any]

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
# of the technical record, what goes into a row
_FACTS = ("format", "modality", "frame", "rows", "columns")


def failed_row(item_id: str, reason: str, detail: str = "", *, status: str = FAILED) -> Row:
    """The row of what could not be predicted (``failed``), or was not to be (``skipped``)."""
    return {"id": item_id, "status": status, "reason": reason, "detail": detail}


def classification_rows(
    ids: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    logits: np.ndarray,
    features: np.ndarray | None,
    *,
    class_names: Sequence[str],
    trust: Any = None,
) -> list[Row]:
    """The rows of images that were classified.

    Args:
        ids: of N images.
        records: technical facts of each.
        logits: (N, C).
        features: (N, F), what the head read; None where it is not known.
        class_names: C names.
        trust: a :class:`~movl_monai.trust.TrustRecord`, or None.

    Returns:
        ``id``, ``status``, ``reason``, ``predicted``, ``probabilities`` (C), and of the trust record what it knows,
        else None: ``calibrated`` (C), ``ood_score``, ``outside``, ``abstain``, ``prediction_set`` (names).

    Example:
        >>> rows = classification_rows(["0a"], [{}], np.array([[0.0, 0.0]]), None, class_names=["no", "yes"])
        >>> rows[0]["predicted"], rows[0]["probabilities"], rows[0]["outside"]
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
        chosen = of("sets", number)
        rows.append(
            {
                "id": image_id,
                "status": OK,
                "reason": "",
                **{name: record[name] for name in _FACTS if record.get(name) not in (None, "")},
                "predicted": class_names[int(values[number].argmax())],
                "probabilities": probabilities[number].tolist(),
                "calibrated": of("probabilities", number),
                "ood_score": of("ood_scores", number),
                "outside": of("outside", number),
                "abstain": of("abstain", number),
                "prediction_set": None
                if chosen is None
                else [name for name, inside in zip(class_names, chosen, strict=True) if inside],
            }
        )
    return rows


def results_csv(rows: Sequence[Row], class_names: Sequence[str]) -> str:
    """CSV text of rows: a column for each class of what is a list over classes, and numbers that read back the same.

    Columns that no row fills are left out, but for ``id``, ``status``, ``reason`` and ``predicted``.
    """
    flat = [_flat(row, class_names) for row in rows]
    always = ("id", "status", "reason", "detail")
    columns = list(dict.fromkeys([*always, *(name for row in flat for name in row)]))
    filled = [name for name in columns if name in always[:3] or any(row.get(name) not in (None, "") for row in flat)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, filled, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in flat)
    return stream.getvalue()


def _flat(row: Row, class_names: Sequence[str]) -> Row:
    flat: Row = {}
    for name, value in row.items():
        prefix = {"probabilities": "probability_", "calibrated": "calibrated_"}.get(name)
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
