"""Sections on prediction sets and on abstention."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from movl_monai.evaluation.pages.parts import (
    beside,
    gap,
    listed,
    notes_of,
    number_cell,
    percent,
    picture,
    section_title,
)
from movl_monai.page import cell, section, table

__all__ = ["METHODS", "render_abstention", "render_conformal", "risk_at"]

METHODS = {
    "lac": "least ambiguous sets, LAC",
    "aps": "adaptive sets, APS",
    "aps_randomised": "adaptive sets, APS, randomised",
    "lac_per_class": "LAC, a threshold for each class",
    "aps_per_class": "APS, a threshold for each class",
}
_SHARES = (1.0, 0.8, 0.5)


def render_conformal(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return coverage and size of the prediction sets in every section, for each method."""
    entry, notes = report.get("conformal"), notes_of(report, "conformal")
    title = "Sets of classes with a promise"
    methods = (entry or {}).get("methods") or {}
    if entry is None or not methods:
        return section("conformal", title, [gap("Conformal sets are not in this report.", notes)])
    source = entry.get("calibrated_on") or {}
    lead = (
        f"Instead of one class the network can name a set that holds the right one in {percent(1 - entry['alpha'])} of "
        f"cases. The promise was set on {source.get('n', '-')} images of {source.get('split', 'calibration')}, of "
        "patients that are in no other part. It holds for images of the same kind only: elsewhere it may fail, as the "
        "table shows."
    )
    chart = beside(
        picture(
            pictures.get("conformal_coverage.png"),
            alternative="Share of sets that hold the label, by method and images. The tables hold the numbers.",
            caption="How often the sets hold the label.",
        ),
        picture(
            pictures.get("conformal_size.png"),
            alternative="Mean number of classes in a set, by method and images. The tables hold the numbers.",
            caption="How large the sets are: one that always holds all classes says nothing.",
        ),
    )
    tables = [_method(name, part, notes) for name, part in methods.items()]
    return section("conformal", title, [f"<p>{escape(lead)}</p>", chart, *tables, listed(notes)])


def _method(name: str, method: Mapping[str, Any], notes: list[str]) -> str:
    title = METHODS.get(name, name.replace("_", " "))
    if not method.get("sections"):
        own = [note.partition(":")[2].strip() for note in notes if note.startswith(f"{name}:")]
        return gap(f"No sets: {title}.", method.get("notes") or own or notes)
    parts = method["sections"]
    sizes = sorted({size for part in parts.values() for size in part.get("sizes") or {}}, key=int)
    classes = list(dict.fromkeys(label for part in parts.values() for label in part.get("per_class_coverage") or {}))
    rows = []
    for key, part in parts.items():
        counts, each = part.get("sizes") or {}, part.get("per_class_coverage") or {}
        bounds = part.get("per_class_interval") or {}
        numbers = [number_cell(part.get("coverage"), part.get("coverage_interval")), number_cell(part.get("mean_size"))]
        numbers.append(cell(" / ".join(str(counts.get(size, 0)) for size in sizes), number=True))
        numbers += [number_cell(each.get(label), bounds.get(label)) for label in classes]
        rows.append([cell(section_title(key)), *numbers])
    headings = ["Images", "Coverage", "Mean size", f"Sets of {' / '.join(sizes)} classes"]
    caption = f"{title[0].upper()}{title[1:]}: share of sets that hold the label, their size, and the share by class."
    return table([*headings, *(f"Coverage of {label}" for label in classes)], rows, caption=caption)


def render_abstention(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return risk-coverage curves: the error rate if the least certain images go to a human reader."""
    entry, notes = report.get("abstention"), notes_of(report, "abstention")
    title = "Answering only where it is sure"
    if not entry or not entry.get("sections"):
        return section("abstention", title, [gap("Abstention is not in this report.", notes)])
    parts = entry["sections"]
    lead = (
        "The network answers the images that it is surest of and leaves the others to people. The curve shows which "
        "share of its answers is wrong. Where it rises to the right, being sure is worth something; where it is flat "
        "or falls, it is not."
    )
    chart = picture(
        pictures.get("risk_coverage.png"),
        alternative="Share of wrong answers against share of images answered, a line for each of "
        f"{', '.join(map(section_title, parts))}. The table holds the numbers.",
        caption="Risk-coverage curves.",
    )
    rows = []
    for key, part in parts.items():
        numbers = [cell(percent(risk_at(part, share)), number=True) for share in _SHARES]
        rows.append([cell(section_title(key)), *numbers, number_cell(part.get("aurc"), part.get("aurc_interval"))])
    headings = ["Images", *(f"{share:.0%} answered".replace("%", " %") for share in _SHARES), "AURC ↓"]
    shown = table(headings, rows, caption="Share of answers that is wrong. AURC: area under the curve.")
    told = (
        listed(notes) if entry.get("threshold") is not None else ""
    )  # without a threshold, the gap already shows them
    body = [f"<p>{lead}</p>", beside(chart, shown), _threshold(entry, notes), told]
    return section("abstention", title, body)


def _threshold(entry: Mapping[str, Any], notes: list[str]) -> str:
    if entry.get("threshold") is None:
        return gap(f"No threshold for a risk of at most {percent(entry.get('target_risk'))} was found.", notes)
    rows = []
    for key, part in entry["sections"].items():
        found = part.get("at_threshold") or {}
        own = found.get("intervals") or {}
        numbers = [number_cell(found.get(name), own.get(name)) for name in ("coverage", "risk")]
        rows.append([cell(section_title(key)), *numbers])
    source = entry.get("chosen_on") or {}
    caption = (
        f"Answering from a stated probability of {entry['threshold']:.4g} on, chosen for a risk of at most "
        f"{percent(entry.get('target_risk'))} on {source.get('n', '-')} images of {source.get('split', 'val')}."
    )
    return table(["Images", "Share answered", "Share of answers wrong"], rows, caption=caption)


def risk_at(part: Mapping[str, Any], share: float) -> float | None:
    """Return the risk at the smallest coverage of a curve that is at least ``share``; None without a curve."""
    coverage = np.asarray(part.get("coverage") or [], dtype=float)
    reached = np.flatnonzero(coverage >= share - 1e-9)
    if not len(reached):
        return None
    value = part["risk"][int(reached[np.argmin(coverage[reached])])]
    return None if value is None else float(value)
