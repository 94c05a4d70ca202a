"""Several findings on a page: first screen, table on trust, chart, and tables for spreadsheets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from movl_monai.metrics.declared import FINDING_FIGURES
from movl_monai.report.report_tables import detection_rows, figure_table, group_rows, operating_rows, sections_of
from movl_monai.report.sections.canvas import canvas, chart_names, dots, finished
from movl_monai.report.sections.first_screen import detection_notes, flagged, tested_sections, trust_rows
from movl_monai.report.summary import how_sure
from movl_monai.report.words import bounds_words, is_tested, percent, readable, section_title, text_number

__all__ = [
    "draw_findings",
    "facts_on_findings",
    "finding_tables",
    "finding_words",
    "findings_trust_table",
    "notes_on_findings",
    "trust_of_findings",
]


def finding_words(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sentences of the first screen: ``here``, ``elsewhere``, ``sure``, ``outside``."""
    here = report["id"]
    return {
        "here": _how_good(here)
        if here and here["n"]
        else ["No labeled test images from the place it was trained for were evaluated."],
        "elsewhere": {
            name: [*_how_good(part), _on_change(part, here)] if part["n"] else ["No labeled images."]
            for name, part in report["ood"].items()
        },
        "sure": how_sure(report),
        "outside": [*detection_notes(report), *_on_calls(report)],
    }


def findings_trust_table(report: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return shares for every set of test and far images, means over the findings; see :func:`.trust_table`."""
    columns = {
        "Answered": lambda row: row["answered"],
        "Wrong among the answers": lambda row: row["risk"],
        "Calibration error": lambda row: row["ece_before"],
        "Label in the prediction set": lambda row: row["coverage"],
    }
    rows = [row for row in trust_of_findings(report) if is_tested(row["section"])]
    return trust_rows([*flagged(report), *((title, _means(rows, of)) for title, of in columns.items())])


def trust_of_findings(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the numbers on trust of each finding in each section; None where there is none.

    Yields:
        ``finding``, ``section``, ``threshold``, ``temperature``, ``ece_before``, ``ece_after``; of the prediction sets
        ``coverage``, ``coverage_interval`` and ``both``, the share that holds both; ``least_confidence``, ``answered``
        and ``risk``.
    """
    for name, entry in (report.get("findings") or {}).items():
        calibration, abstention = entry["calibration"], entry["abstention"]
        sets = (entry["conformal"]["methods"].get("lac") or {}).get("sections") or {}
        for key in dict.fromkeys([*calibration["sections"], *sets, *abstention["sections"]]):
            one, held = calibration["sections"].get(key) or {}, sets.get(key) or {}
            at = (abstention["sections"].get(key) or {}).get("at_threshold") or {}
            yield {
                "finding": name,
                "section": key,
                "threshold": entry["threshold"]["threshold"],
                "temperature": calibration["temperature"],
                "ece_before": (one.get("before") or {}).get("ece"),
                "ece_after": (one.get("after") or {}).get("ece"),
                "coverage": held.get("coverage"),
                "coverage_interval": held.get("coverage_interval"),
                "both": held["sizes"]["2"] / held["n"] if held else None,
                "least_confidence": abstention["threshold"],
                "answered": at.get("coverage"),
                "risk": at.get("risk"),
            }


def notes_on_findings(report: Mapping[str, Any]) -> list[str]:
    """Return the notes on calibration, prediction sets and abstention, each once with the findings that it is about."""
    names: dict[str, list[str]] = {}
    entries = report.get("findings") or {}
    for name, entry in entries.items():
        parts = [entry["calibration"], entry["conformal"], *entry["conformal"]["methods"].values(), entry["abstention"]]
        for note in dict.fromkeys(readable(note) for part in parts for note in part["notes"]):
            names.setdefault(note, []).append(name)
    return [note if len(of) == len(entries) else f"{', '.join(of)}: {note}" for note, of in names.items()]


def facts_on_findings(report: Mapping[str, Any]) -> dict[str, str | None]:
    """Return facts of model cards on the temperatures, thresholds, prediction sets and abstention of the findings."""
    entries = report.get("findings") or {}

    def numbers(of: Callable[[Mapping[str, Any]], float | None]) -> str:
        known = {name: value for name, entry in entries.items() if (value := of(entry)) is not None}
        return ", ".join(f"{name} {text_number(value)}" for name, value in known.items())

    temperatures = numbers(lambda entry: entry["calibration"]["temperature"])
    thresholds = numbers(lambda entry: entry["threshold"]["threshold"])
    least = numbers(lambda entry: entry["abstention"]["threshold"])
    alpha = next((entry["conformal"]["alpha"] for entry in entries.values() if entry["conformal"]["methods"]), None)
    return {
        "calibration": f"A temperature for each finding, fitted on val: {temperatures}." if temperatures else None,
        "thresholds": f"A finding is called positive from a probability on that was chosen on val: {thresholds}."
        if thresholds
        else None,
        "prediction_sets": None
        if alpha is None
        else f"Prediction sets of each finding that aim at a coverage of {percent(1 - alpha)}.",
        "abstention": f"No answer for a finding below its least confidence, chosen on val: {least}." if least else None,
    }


def finding_tables(report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables: figures, findings (on trust), cooccurrence, ood_detection, points and groups."""
    names = list(report["classes"])
    trust = [
        {**{key: value for key, value in row.items() if key != "coverage_interval"}}
        for row in trust_of_findings(report)
    ]
    pairs = [
        {
            "section": key,
            "finding": one,
            "other": other,
            "labels": of["labels"][a][b],
            "predicted": of["predicted"][a][b],
        }
        for key, part in sections_of(report).items()
        for of in [part["cooccurrence"]]
        for a, one in enumerate(names)
        for b, other in enumerate(names)
        if b >= a
    ]
    return {
        "figures": figure_table(report),
        "findings": trust,
        "cooccurrence": pairs,
        "ood_detection": detection_rows(report),
        "operating_points": operating_rows(report),
        "groups": group_rows(report, FINDING_FIGURES),
    }


def draw_findings(report: Mapping[str, Any]) -> bytes | None:
    """Draw the AUROC of every finding in every test as a PNG; None without a figure."""
    parts, names = tested_sections(report), list(report["classes"])
    if not any(one["auroc"] is not None for part in parts.values() for one in part["per_class"].values()):
        return None
    figure, axis = canvas(width=6.4, height=1.5 + (0.2 + 0.16 * len(parts)) * len(names))
    for series, (title, part) in enumerate(
        zip(chart_names(list(map(section_title, parts))), parts.values(), strict=True)
    ):
        values = [part["per_class"][name]["auroc"] for name in names]
        intervals = [part["per_class_intervals"][name]["auroc"] for name in names]
        shift = 0.7 / len(parts) * (series - (len(parts) - 1) / 2)
        dots(axis, names, values, intervals, series=series, shift=shift, label=title)
    axis.axvline(0.5, color="#555555", linestyle=":", linewidth=1.5)
    axis.set(xlim=(0, 1.02), xlabel="AUROC (dotted: guessing)")
    return finished(figure)


def _how_good(section: Mapping[str, Any]) -> list[str]:
    patients = f" of {section['n_patients']} patients" if section["n_patients"] else ", of unknown patients"
    images = f"{section['n']} images{patients}."
    without = [name for name, one in section["per_class"].items() if one["auroc"] is None]
    if section["auroc"] is None:
        return [f"No finding has labeled images with and without it, so there is no AUROC. {images}"]
    bounds = bounds_words(section["intervals"]["auroc"], percent=False)
    level = percent(section["resampling"]["level"], digits=0)
    words = f"{level} interval {bounds}" if bounds else "No interval"
    gap = f" Without a value, and not in the mean: {', '.join(without)}." if without else ""
    return [f"{words}; guessing gives 0.5. Mean over {len(section['per_class']) - len(without)} findings.{gap}", images]


def _on_change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> str:
    if not here or here["auroc"] is None or section["auroc"] is None:
        return "It cannot be compared with the in-distribution figure, because there is none."
    if any(
        (one["auroc"] is None) != (here["per_class"][name]["auroc"] is None)
        for name, one in section["per_class"].items()
    ):
        return "It is the mean over other findings than in the internal test, so both cannot be compared."
    change = section["auroc"] - here["auroc"]
    if abs(change) < 0.0005:
        return "The macro AUROC is the same as in the internal test."
    return f"The macro AUROC is {abs(change):.3f} {'higher' if change > 0 else 'lower'} than in the internal test."


def _on_calls(report: Mapping[str, Any]) -> list[str]:
    entries = report.get("findings") or {}
    silent = [name for name, entry in entries.items() if entry["threshold"]["threshold"] is None]
    without = [
        name for name, entry in entries.items() if entry["abstention"]["threshold"] is None and name not in silent
    ]
    notes = ["Shares but that of flagged images are means over the findings."] if entries else []
    if silent:
        notes.append(f"It never answers for {', '.join(silent)}: no threshold could be chosen on val.")
    if without:
        notes.append(f"For {', '.join(without)} no confidence reaches the target risk, so that it always answers.")
    alpha = next((entry["conformal"]["alpha"] for entry in entries.values() if entry["conformal"]["methods"]), None)
    if alpha is not None:
        asked = percent(1 - alpha, digits=0)
        notes.append(
            f"The prediction set of a finding is to hold its label in {asked} of images like those of the test."
        )
    return notes


def _means(rows: list[dict[str, Any]], of: Callable[[Mapping[str, Any]], float | None]) -> dict[str, float | None]:
    """Return the mean of a number over the findings by section."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if (value := of(row)) is not None:
            found.setdefault(row["section"], []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}
