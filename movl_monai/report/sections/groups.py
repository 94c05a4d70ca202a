"""Tables on patient groups: their figures, the gaps between them, and small groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.report.sections.charts import group_columns, group_sections, main_figure
from movl_monai.report.words import section_title

__all__ = ["group_tables"]

_FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
}


def group_tables(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of every group, the largest gaps, and the reasons for missing gaps, for every group column."""
    return [_table(name, report["groups"][name]) for name in group_columns(report)]


def _table(name: str, column: Mapping[str, Any]) -> dict[str, Any]:
    sections, gaps = group_sections(column), column.get("gaps") or {}
    known = {key: found for key, found in gaps.items() if found and found.get("largest") is not None}
    return {
        "name": name,
        "sections": sections,
        "main": _FIGURES[main_figure(sections)],
        "figures": {
            figure: title
            for figure, title in _FIGURES.items()
            if any(figure in group for part in sections.values() for group in part.values())
        },
        "gaps": {key: {**found, "between": _between(found)} for key, found in known.items()},
        "missing": [
            f"{section_title(key)}: {' '.join((found or {}).get('notes') or ['no gap can be given.'])}"
            for key, found in gaps.items()
            if key not in known
        ],
        "notes": column.get("notes") or (),
    }


def _between(gap: Mapping[str, Any]) -> str:
    names = " and ".join(str(value) or "not stated" for value in gap.get("between") or [])
    return f"{names} (small)" if gap.get("small") else names
