"""First screen of a report: internal and external test, intervals, baselines, and limits of trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from movl_monai.report.summary import how_good_elsewhere, how_good_here, how_sure
from movl_monai.report.words import domain_of, is_tested, notes_of, percent

__all__ = ["METHODS", "first_words", "risk_at"]

METHODS = {
    "lac": "least ambiguous sets, LAC",
    "aps": "adaptive sets, APS",
    "aps_randomised": "adaptive sets, APS, randomised",
    "lac_per_class": "LAC, a threshold for each class",
    "aps_per_class": "APS, a threshold for each class",
}


def risk_at(part: Mapping[str, Any], share: float) -> float | None:
    """Return the risk at the smallest coverage of a curve that is at least ``share``; None without a curve."""
    coverage = np.asarray(part.get("coverage") or [], dtype=float)
    reached = np.flatnonzero(coverage >= share - 1e-9)
    if not len(reached):
        return None
    value = part["risk"][int(reached[np.argmin(coverage[reached])])]
    return None if value is None else float(value)


def first_words(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sentences of each card of the first screen."""
    return {
        "here": how_good_here(report),
        "elsewhere": how_good_elsewhere(report),
        "sure": [*how_sure(report), *_promise(report)],
        "outside": [*_outside(report), *_unsure(report)],
    }


def _promise(report: Mapping[str, Any]) -> list[str]:
    """Promised and achieved coverage of the prediction sets; empty if none were computed (the section says why)."""
    entry = report.get("conformal") or {}
    for name, method in (entry.get("methods") or {}).items():
        found = {key: part.get("coverage") for key, part in (method.get("sections") or {}).items()}
        parts = [
            f"{percent(value)} {_place(key)}" for key, value in found.items() if value is not None and is_tested(key)
        ]
        if parts:
            kind = METHODS.get(name, name.replace("_", " "))
            asked = percent(1 - entry["alpha"], digits=0)
            return [f"Coverage of the prediction sets ({kind}; target {asked}): {_and(parts)}."]
    return []


def _outside(report: Mapping[str, Any]) -> list[str]:
    entry = report.get("ood_detection") or {}
    sets, chosen = entry.get("sets") or {}, entry.get("chosen") or {}
    if not sets or chosen.get("threshold") is None:
        notes = notes_of(report, "ood_detection")
        # prefer the note about this among all notes
        why = " ".join([note for note in notes if "marked as outside" in note] or notes)
        why = why or "The report holds no scores of it; evaluate again with this version of movl_monai."
        return [f"It does not flag out-of-distribution images. {why}"]
    flagged = {name: part.get("flagged") for name, part in sets.items()}
    words = [f"{percent(value)} of {name}" for name, value in flagged.items() if value is not None]
    wrong = entry.get("id_flagged")
    here = [f"{percent(wrong)} of the internal test images (false alarms)"] if wrong is not None else []
    return [f"Flagged as out-of-distribution: {_and([*words, *here])}."]


def _unsure(report: Mapping[str, Any]) -> list[str]:
    entry = report.get("abstention") or {}
    sections = {key: part for key, part in (entry.get("sections") or {}).items() if is_tested(key)}
    answered = {key: part["at_threshold"] for key, part in sections.items() if part.get("at_threshold")}
    if entry.get("threshold") is not None and answered:
        parts = [
            f"{percent(found['coverage'])} {_place(key)} ({percent(found['risk'])} of these answers are wrong)"
            for key, found in answered.items()
        ]
        return [f"Below a stated probability of {percent(entry['threshold'])} it abstains. It answers {_and(parts)}."]
    parts = []
    for key, part in sections.items():
        everything, surest = risk_at(part, 1.0), risk_at(part, 0.8)
        if everything is not None and surest is not None:
            parts.append(f"from {percent(everything)} to {percent(surest)} {_place(key)}")
    if not parts:
        why = " ".join(notes_of(report, "abstention")) or "Risk and coverage are not in this report."
        return [f"The effect of abstention is not known. {why}"]
    return [f"If the least certain 20 % of images go to a human reader, wrong answers change {_and(parts)}."]


def _place(key: str) -> str:
    return "in the internal test" if key == "id" else f"on {domain_of(key)}"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
