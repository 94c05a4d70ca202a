"""First screen of a classification's report: sensitivity and specificity, and a small table on trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.report.words import domain_of, is_tested, notes_of, percent

__all__ = [
    "FIRST_FIGURES",
    "METHODS",
    "class_rates",
    "detection_notes",
    "flagged",
    "leading_figure",
    "promised_method",
    "risk_at",
    "shares_above",
    "tested_sections",
    "trust_notes",
    "trust_rows",
    "trust_table",
]

FIRST_FIGURES = ("balanced_accuracy", "auroc")
METHODS = {
    "lac": "least ambiguous sets, LAC",
    "aps": "adaptive sets, APS",
    "aps_randomised": "adaptive sets, APS, randomised",
    "lac_per_class": "LAC, a threshold for each class",
    "aps_per_class": "APS, a threshold for each class",
    "ordinal_aps": "ranges of grades, ordinal APS",
    "ordinal_aps_per_class": "ordinal APS, a threshold for each grade",
}


def tested_sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with labeled test images by key: "id" and "ood:<domain>"."""
    parts = {"id": report.get("id"), **{f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}}
    return {key: part for key, part in parts.items() if part and part.get("n")}


def leading_figure(section: Mapping[str, Any]) -> str:
    """Return the figure in large digits: balanced accuracy, or accuracy where a class has no images."""
    return "accuracy" if section.get("balanced_accuracy") is None else "balanced_accuracy"


def class_rates(section: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return how often a class is found and how often it is said wrongly.

    Args:
        section: section of a report with ``per_class`` and ``confusion_matrix``.
        classes: names in the order of the logits; of two the second alone, as the first mirrors it.

    Returns:
        for each class ``label``, ``sensitivity`` and ``specificity`` with their ``intervals``, ``n`` of its images,
        ``missed`` of these, and ``false``, the images of other classes (``others``) that were taken for it.

    Example:
        >>> part = {"per_class": {"a": {"n": 3}, "b": {"n": 2, "sensitivity": 0.5, "specificity": 1.0}}}
        >>> part["confusion_matrix"] = [[3, 0], [1, 1]]
        >>> (found,) = class_rates(part, ["a", "b"])
        >>> found["missed"], found["n"], found["false"], found["others"]
        (1, 2, 0, 3)
    """
    rows, matrix = [], np.asarray(section.get("confusion_matrix") or np.zeros((len(classes), len(classes)), int))
    for number, label in enumerate(classes):
        found = (section.get("per_class") or {}).get(label)
        if found is None or (len(classes) == 2 and number == 0):
            continue
        rows.append(
            {
                "label": label,
                "sensitivity": found.get("sensitivity"),
                "specificity": found.get("specificity"),
                "intervals": (section.get("per_class_intervals") or {}).get(label) or {},
                "n": int(matrix[number].sum()),
                "missed": int(matrix[number].sum() - matrix[number, number]),
                "false": int(matrix[:, number].sum() - matrix[number, number]),
                "others": int(matrix.sum() - matrix[number].sum()),
            }
        )
    return rows


def risk_at(part: Mapping[str, Any], share: float) -> float | None:
    """Return the risk at the smallest coverage of a curve that is at least ``share``; None without a curve."""
    coverage = np.asarray(part.get("coverage") or [], dtype=float)
    reached = np.flatnonzero(coverage >= share - 1e-9)
    if not len(reached):
        return None
    value = part["risk"][int(reached[np.argmin(coverage[reached])])]
    return None if value is None else float(value)


def trust_table(report: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return shares for every set of test and far images, by the title of the set and the heading of the share.

    Shares that the report does not have for any set are left out; :func:`trust_notes` says why.
    """
    return trust_rows([*flagged(report), *_answered(report), _calibration_error(report), _covered(report)])


def trust_rows(columns: Sequence[_Column]) -> dict[str, dict[str, float | None]]:
    """Return the rows of a table on trust, by the title of the set and the heading of the share."""
    rows: dict[str, dict[str, float | None]] = {}
    for heading, values in columns:
        for key, value in values.items():
            rows.setdefault("Internal test" if key == "id" else domain_of(key), {})[heading] = value
    known = {heading for row in rows.values() for heading, value in row.items() if value is not None}
    order = [heading for heading, _ in columns if heading in known]
    return {title: {heading: row.get(heading) for heading in order} for title, row in rows.items()}


def trust_notes(report: Mapping[str, Any]) -> list[str]:
    """Return sentences that the table on trust needs: thresholds and targets, and reasons for missing columns."""
    notes = detection_notes(report)
    abstention, conformal = report.get("abstention") or {}, report.get("conformal") or {}
    if not _answered(report):
        why = " ".join(notes_of(report, "abstention")) or "Risk and coverage are not in this report."
        notes.append(f"The effect of abstention is not known. {why}")
    elif abstention.get("threshold") is not None:
        notes.append(f"Below a stated probability of {percent(abstention['threshold'])} it abstains.")
    if method := promised_method(report):
        kind, asked = METHODS.get(method, method.replace("_", " ")), percent(1 - conformal["alpha"], digits=0)
        notes.append(f"Prediction sets ({kind}) are to hold the label in {asked} of images like those of the test.")
    return notes


def detection_notes(report: Mapping[str, Any]) -> list[str]:
    """Return the reason why no images are flagged as out-of-distribution; nothing if they are."""
    if flagged(report):
        return []
    # prefer the note about this among all notes
    found = notes_of(report, "ood_detection")
    why = " ".join([note for note in found if "marked as outside" in note] or found)
    why = why or "The report holds no scores of it; evaluate again with this version of movl_monai."
    return [f"It does not flag out-of-distribution images. {why}"]


_Column = tuple[str, dict[str, float | None]]


def flagged(report: Mapping[str, Any]) -> list[_Column]:
    """Return the column of a table on trust with the share of flagged images; nothing if none can be flagged."""
    entry = report.get("ood_detection") or {}
    sets = entry.get("sets") or {}
    if not sets or (entry.get("chosen") or {}).get("threshold") is None:
        return []
    shares = {f"ood:{name}": part.get("flagged") for name, part in sets.items()}
    return [("Flagged as out-of-distribution", {"id": entry.get("id_flagged"), **shares})]


def _answered(report: Mapping[str, Any]) -> list[_Column]:
    entry = report.get("abstention") or {}
    parts = {key: part for key, part in (entry.get("sections") or {}).items() if is_tested(key)}
    found = {key: part["at_threshold"] for key, part in parts.items() if part.get("at_threshold")}
    if entry.get("threshold") is not None and found:
        return [
            ("Answered", {key: part["coverage"] for key, part in found.items()}),
            ("Wrong among the answers", {key: part["risk"] for key, part in found.items()}),
        ]
    surest = {key: risk_at(part, 0.8) for key, part in parts.items()}
    if all(value is None for value in surest.values()):
        return []
    return [
        ("Wrong answers", {key: risk_at(part, 1.0) for key, part in parts.items()}),
        ("Wrong if people read the least certain fifth", surest),
    ]


def shares_above(report: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the shares of answered images whose risk the first screen gives."""
    return (1.0, 0.8) if any(heading == "Wrong answers" for heading, _ in _answered(report)) else ()


def _calibration_error(report: Mapping[str, Any]) -> _Column:
    return "Calibration error", {key: part.get("ece") for key, part in tested_sections(report).items()}


def promised_method(report: Mapping[str, Any]) -> str:
    """Return the method of the prediction sets on the first screen, "" without one."""
    methods = (report.get("conformal") or {}).get("methods") or {}
    return next((name for name, method in methods.items() if any(map(is_tested, method.get("sections") or {}))), "")


def _covered(report: Mapping[str, Any]) -> _Column:
    method = ((report.get("conformal") or {}).get("methods") or {}).get(promised_method(report)) or {}
    sections = {key: part for key, part in (method.get("sections") or {}).items() if is_tested(key)}
    return "Label in the prediction set", {key: part.get("coverage") for key, part in sections.items()}
