"""Figures of a report by section, with their names and meanings, and the variables of its templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.metrics.declared import DECLARED
from movl_monai.report.model_card import model_card
from movl_monai.report.sections.baselines import METRICS, compared_runs
from movl_monai.report.sections.charts import group_columns, group_sections, main_figure
from movl_monai.report.words import section_title

__all__ = [
    "MASK_FIGURES",
    "common_values",
    "declared_figures",
    "figure_sections",
    "group_tables",
    "remarks",
    "score_names",
]

_FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
}
# name, arrow (up: larger is better), meaning
MASK_FIGURES: dict[str, tuple[str, str, str]] = {
    "dice": ("Dice", "↑", "twice the common area over the sum of both areas, 0 to 1"),
    "iou": ("IoU", "↑", "common area over the united area, 0 to 1"),
    "sensitivity": ("Sensitivity", "↑", "share of the true area that was found"),
    "precision": ("Precision", "↑", "share of the predicted area that is true"),
    "hd95": ("HD95", "↓", "95th percentile of the distances between the two outlines, the larger of both directions"),
    "asd": ("Average surface distance", "↓", "mean distance from either outline to the other"),
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


def declared_figures() -> dict[str, tuple[str, str, str]]:
    """Return title, better direction and definition of every figure of a classification."""
    return {name: (figure.title, figure.better, figure.definition) for name, figure in DECLARED.items()}


def figure_sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with figures of a report by key ("id", "ood:<domain>", "val", "calibration")."""
    parts = {"id": report.get("id"), **{f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}}
    parts |= {"val": report.get("val"), "calibration": report.get("calibration_section")}
    return {name: part for name, part in parts.items() if part}


def common_values(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that the templates of classification and segmentation share."""
    return {
        "report": report,
        "made": report.get("model_card") or model_card(report),
        "sections": figure_sections(report),
        "groups": group_tables(report),
        "compared": compared_runs(report),
        "metric_names": METRICS,
    }


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Return the notes on the figures of every section."""
    parts = figure_sections(report).items()
    return [f"{section_title(key)}: {note}" for key, part in parts for note in part.get("notes") or ()]


def score_names(report: Mapping[str, Any]) -> list[str]:
    """Return the OOD scores that have a value on any set; the notes give the reason for the others."""
    sets = (report.get("ood_detection") or {}).get("sets") or {}
    found = [pair for part in sets.values() for pair in (part.get("scores") or {}).items()]
    return list(dict.fromkeys(name for name, value in found if value))
