"""Ingest report: one row per file with its outcome, safe to leave the site."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.data.duplicates import Duplicate
from movl_monai.data.entries import SkippedFile
from movl_monai.data.ids import IdMap
from movl_monai.data.label_forms import label_text

__all__ = ["COLUMNS", "report_rows", "write_report"]

COLUMNS = (
    "id",
    "status",
    "reason",
    "detail",
    "domain",
    "split",
    "label",
    "patient",
    "frame",
    "duplicate_of",
    "duplicate_kind",
)


def report_rows(
    items: Sequence[Mapping[str, Any]],
    outcomes: Sequence[tuple[str, str, Mapping[str, Any]]],
    *,
    class_names: Sequence[str],
    id_map: IdMap,
    skipped: Iterable[SkippedFile] = (),
) -> list[dict[str, Any]]:
    """Return the rows of the report: one per item, then one per skipped file.

    Args:
        items: the items.
        outcomes: reason code ("" for readable), detail and technical record of each.
        class_names: names of the labels.
        id_map: salts the patients.
        skipped: files that the list skipped.
    """
    rows = []
    for item, (reason, detail, record) in zip(items, outcomes, strict=True):
        label, patient = item["label"], item["patient_id"]
        row = {
            "id": item["id"],
            "status": "unreadable" if reason else "ok",
            "reason": reason,
            "detail": detail,
            "domain": item["domain"],
            "split": item["split"] or "",
            "label": label_text(label, class_names),
            "patient": "" if patient is None else id_map.patient_id(patient),
            "frame": item.get("frame", ""),
        }
        # the fixed columns take precedence over a record's key of the same name
        rows.append({**{key: _cell(value) for key, value in record.items()}, **row})
    for file in skipped:
        row = {"id": file.id, "status": "skipped", "reason": file.reason}
        rows.append({**row, "domain": file.domain or "", "split": file.split or ""})
    return rows


def mark_duplicates(rows: Sequence[dict[str, Any]], duplicates: Iterable[Duplicate]) -> None:
    """Fill the columns ``duplicate_of`` and ``duplicate_kind``; ``rows`` are the rows of the compared images."""
    for duplicate in duplicates:
        rows[duplicate.index]["duplicate_of"] = rows[duplicate.of]["id"]
        rows[duplicate.index]["duplicate_kind"] = duplicate.kind


def write_report(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as CSV: the fixed columns, then the columns of the technical records in alphabetical order."""
    extra = sorted({key for row in rows for key in row} - set(COLUMNS))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*COLUMNS, *extra], restval="")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: Any) -> Any:
    """Return a cell: a list as words separated by blanks, a mapping as JSON, None as ""."""
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, (list, tuple, set)):
        return " ".join(str(part) for part in value)
    return "" if value is None else value
