"""Section on operating points: thresholds for a target sensitivity or specificity, and their figures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.pages.parts import gap, listed, notes_of, number_cell, percent, readable, section_title
from movl_monai.page import cell, section, table

__all__ = ["render_operating_points"]

_FIGURES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}


def render_operating_points(report: Mapping[str, Any]) -> str:
    """Return one table per operating point."""
    entry, notes = report.get("operating_points"), notes_of(report, "operating_points")
    title = "Operating points"
    if not entry or not entry.get("points"):
        return section("operating-points", title, [gap("Operating points are not in this report.", notes)])
    lead = (
        "An image counts as a class when its probability reaches the threshold. Thresholds were chosen on images that "
        "are not test images, so that the target may be missed here, and more so elsewhere. PPV and NPV: share of "
        "positive and of negative answers that is right; they hold for the share of positives in these images only."
    )
    parts = [_point(point, notes) for point in entry["points"]]
    return section("operating-points", title, [f"<p>{lead}</p>", *parts, listed(notes)])


def _point(point: Mapping[str, Any], notes: list[str]) -> str:
    target = point.get("target") or {}
    aim = f"{target.get('metric', 'the target')} of at least {percent(target.get('at_least'))}"
    heading = f'<h3 dir="auto">{escape(str(point["class"]))}: {escape(aim)}</h3>'
    if point.get("threshold") is None:
        return heading + gap("No threshold reaches it.", point.get("notes") or notes)
    source = point.get("chosen_on") or {}
    rows = []
    for key, part in (point.get("sections") or {}).items():
        intervals = part.get("intervals") or {}
        numbers = [number_cell(part.get(name), intervals.get(name)) for name in _FIGURES]
        counts = [number_cell(part.get("n_positive")), number_cell(part.get("n_negative"))]
        rows.append([cell(section_title(key)), *numbers, *counts])
    caption = (
        f"Threshold {point['threshold']:.4g}, chosen on {source.get('n', '-')} images of {source.get('split', 'val')}. "
        "Intervals in brackets."
    )
    own = listed(map(readable, point.get("notes") or ()))
    return heading + table(["Images", *_FIGURES.values(), "Positives", "Negatives"], rows, caption=caption) + own
