"""Calibration section: reliability diagrams and calibration figures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.pages.parts import (
    beside,
    gap,
    listed,
    notes_of,
    number_cell,
    picture,
    readable,
    section_title,
)
from movl_monai.page import cell, section, table, text_cell

__all__ = ["render_calibration"]

_FIGURES = {"cross_entropy": "Cross entropy ↓", "brier": "Brier score ↓", "ece": "Calibration error ↓"}


def render_calibration(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return the figures before and after the temperature, the warning, and the bins of the diagrams."""
    entry, notes = report.get("calibration"), notes_of(report, "calibration")
    title = "Do the probabilities mean what they say?"
    if not entry or not entry.get("sections"):
        return section("calibration", title, [gap("Calibration is not in this report.", notes)])
    parts = entry["sections"]
    lead = (
        "A network that says 90 % should be right in 90 of 100 cases. Dots on the dotted diagonal do that; below it "
        "the network is too sure, above it not sure enough. The larger a dot, the more images."
    )
    warning = f'<p class="warning">{escape(readable(entry["warning"]))}</p>' if entry.get("warning") else ""
    body = [f"<p>{lead}</p>", _temperature(entry, notes), warning, _diagrams(parts, pictures), _figures(entry)]
    bins = [_bins(key, part["reliability"]) for key, part in parts.items() if part.get("reliability")]
    rest = (
        listed(notes) if entry.get("temperature") is not None else ""
    )  # without a temperature, the gap already shows them
    return section("calibration", title, [*body, rest, beside(*bins) if bins else ""])


def _diagrams(parts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    shown = [
        picture(
            pictures.get(f"reliability_{number}.png"),
            alternative=f"Reliability diagram of {section_title(key)}: share right against stated probability. The "
            "table of its bins holds the numbers.",
            caption=section_title(key),
        )
        for number, key in enumerate(parts)
    ]
    return f'<div class="panels">{"".join(shown)}</div>' if any(shown) else ""


def _temperature(entry: Mapping[str, Any], notes: list[str]) -> str:
    if entry.get("temperature") is None:
        return gap("There is no temperature.", notes)
    source = entry.get("fitted_on") or {}
    return (
        f"<p>Temperature: {entry['temperature']:.3f} (logits are divided by it; 1 changes nothing), fitted on "
        f"{source.get('n', 'an unknown number of')} images of {escape(section_title(source.get('split', 'val')))}. "
        "It changes no decision, only how sure the network says it is.</p>"
    )


def _figures(entry: Mapping[str, Any]) -> str:
    rows = []
    for key, part in entry["sections"].items():
        after = part.get("after") or {}
        numbers = [number_cell(part["before"].get(name)) for name in _FIGURES]
        changes = [number_cell(after.get(name)) for name in _FIGURES]
        helps = (entry.get("helps") or {}).get(key)
        verdict = "-" if helps is None else "yes" if helps else "no, it hurts"
        rows.append([cell(section_title(key)), *numbers, *changes, text_cell(verdict)])
    if entry.get("temperature") is None:
        return table(["Images", *_FIGURES.values()], [row[: 1 + len(_FIGURES)] for row in rows], caption="As trained.")
    headings = [*_FIGURES.values(), *(f"{name} after" for name in _FIGURES.values())]
    caption = "As trained, and after the temperature. It helps where the cross entropy falls."
    return table(["Images", *headings, "Helps"], rows, caption=caption)


def _bins(key: str, reliability: Mapping[str, Any]) -> str:
    before = reliability.get("before") or []
    after = reliability.get("after") or [{}] * len(before)
    rows = []
    for one, two in zip(before, after, strict=True):
        if one["n"] or two.get("n"):
            numbers = [number_cell(part.get(name)) for part in (one, two) for name in ("n", "confidence", "accuracy")]
            rows.append([cell(f"{one['low']:.2f} to {one['high']:.2f}"), *numbers])
    if not reliability.get("after"):
        caption = f"{section_title(key)}: the bins that have images, as trained."
        return table(["Stated probability", "Images", "Stated", "Right"], [row[:4] for row in rows], caption=caption)
    headings = ["Images", "Stated", "Right", "Images after", "Stated after", "Right after"]
    caption = f"{section_title(key)}: the bins that have images, as trained and after the temperature."
    return table(["Stated probability", *headings], rows, caption=caption)
