"""Section on patient groups: their figures, the gaps between them, and small groups."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.pages.charts import group_columns, main_figure
from movl_monai.evaluation.pages.parts import gap, listed, notes_of, number_cell, picture, readable, section_title
from movl_monai.page import cell, section, table, text_cell

__all__ = ["render_groups"]

_FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
}


def render_groups(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return a chart, the figures of every group, and the largest gap, for every group column."""
    notes, columns = notes_of(report, "groups"), group_columns(report)
    title = "Groups of patients"
    if not columns:
        reasons = notes or ["No column of the manifest was named as a group; set group_columns and evaluate again."]
        return section("groups", title, [gap("Groups are not in this report.", reasons)])
    lead = (
        "Whether the network serves all alike. Small groups are shown and marked: their figures can be far from the "
        "truth in either direction. A gap whose interval holds 0 may be chance."
    )
    parts = [
        _column(name, report["groups"][name], pictures.get(f"groups_{number}.png"))
        for number, name in enumerate(columns)
    ]
    return section("groups", title, [f"<p>{lead}</p>", *parts, listed(notes)])


def _column(name: str, column: Mapping[str, Any], chart: bytes | None) -> str:
    parts = {key: part for key, part in column.items() if key not in ("gaps", "notes") and part}
    figures = [name for name in _FIGURES if any(name in group for part in parts.values() for group in part.values())]
    drawn = picture(
        chart,
        alternative=f"{_FIGURES[main_figure(parts)]} of every group of {name} as dots, intervals as lines. The table "
        "holds the numbers.",
        caption=f"{_FIGURES[main_figure(parts)]} by {name}; hollow dots are small groups.",
    )
    rows = []
    for key, groups in parts.items():
        for value, group in groups.items():
            intervals = group.get("intervals") or {}
            title = (value or "not stated") + (" (small)" if group.get("small") else "")
            numbers = [number_cell(group.get("n")), number_cell(group.get("n_patients"))]
            numbers += [number_cell(group.get(figure), intervals.get(figure)) for figure in figures]
            rows.append([cell(section_title(key)), text_cell(title), *numbers])
    headings = ["Images", name, "Number", "Patients", *(_FIGURES[figure] for figure in figures)]
    tables = table(headings, rows, caption=f"Figures by {name}, intervals in brackets.")
    notes = listed(map(readable, column.get("notes") or ()))
    return f'<h3 dir="auto">{escape(name)}</h3>{drawn}{tables}{_gaps(name, column.get("gaps") or {})}{notes}'


def _gaps(name: str, gaps: Mapping[str, Any]) -> str:
    rows, missing = [], []
    for key, found in gaps.items():
        if not found or found.get("largest") is None:
            missing.append(f"{section_title(key)}: {' '.join((found or {}).get('notes') or ['no gap can be given.'])}")
            continue
        between = " and ".join(str(value) or "not stated" for value in found.get("between") or [])
        between += " (small)" if found.get("small") else ""
        number = number_cell(found["largest"], found.get("interval"))
        metric = str(found.get("metric", "")).replace("_", " ")
        rows.append([cell(section_title(key)), text_cell(metric), number, text_cell(between)])
    shown = table(["Images", "Figure", "Largest gap", "Between"], rows, caption=f"Gaps by {name}.") if rows else ""
    return shown + (gap("Some gaps are not given.", missing) if missing else "")
