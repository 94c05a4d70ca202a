"""A number per image on a page: first screen, picture, and tables for spreadsheets."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from movl_monai.metrics.declared import NUMBER_FIGURES
from movl_monai.report.report_tables import detection_rows, figure_table, group_rows
from movl_monai.report.sections.canvas import chart_names
from movl_monai.report.sections.first_screen import detection_notes, flagged, trust_rows
from movl_monai.report.summary import how_sure
from movl_monai.report.words import bounds_words, is_tested, percent, text_number

__all__ = ["draw_numbers", "facts_on_numbers", "number_tables", "number_words"]

_LONGEST_TITLE, _LONGEST_NAME = 48, 18


def number_words(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first screen: ``here``, ``elsewhere``, ``sure``, ``outside``, ``trust``."""
    here, entry = report["id"], report.get("number_intervals") or {}
    covered = {key: part["coverage"] for key, part in (entry.get("sections") or {}).items() if is_tested(key)}
    notes = detection_notes(report)
    if entry.get("half_width") is not None:
        asked = percent(1 - entry["alpha"], digits=0)
        notes.append(
            f"The interval of a number reaches {text_number(float(entry['half_width']))} to either side, which is to "
            f"hold the true one in {asked} of images like those of the test."
        )
    else:
        notes.append(f"Its numbers have no intervals. {' '.join(entry.get('notes') or ())}".strip())
    return {
        "here": _how_good(here)
        if here and here["n"]
        else ["No labeled test images from the place it was trained for were evaluated."],
        "elsewhere": {
            name: [*_how_good(part), _on_change(part, here)] if part["n"] else ["No labeled images."]
            for name, part in report["ood"].items()
        },
        "sure": how_sure(report),
        "outside": notes,
        "trust": trust_rows([*flagged(report), ("Number in its interval", covered)]),
    }


def number_tables(report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables figures, intervals, ood_detection and groups."""
    entry = report.get("number_intervals") or {}
    intervals = [
        {
            "section": key,
            "n": part["n"],
            "coverage": part["coverage"],
            "low": part["coverage_interval"][0],
            "high": part["coverage_interval"][1],
            "width": part["width"],
        }
        for key, part in (entry.get("sections") or {}).items()
    ]
    return {
        "figures": figure_table(report),
        "intervals": intervals,
        "ood_detection": detection_rows(report),
        "groups": group_rows(report, NUMBER_FIGURES),
    }


def facts_on_numbers(report: Mapping[str, Any]) -> dict[str, str | None]:
    """Return facts of model cards on the intervals."""
    entry = report.get("number_intervals") or {}
    if entry.get("half_width") is None:
        return {}
    place = entry["calibrated_on"]
    return {
        "prediction_sets": f"Intervals of {text_number(float(entry['half_width']))} to either side that aim at a "
        f"coverage of {percent(1 - entry['alpha'])}, from {place['n']} images of {place['split']}."
    }


def draw_numbers(columns: Mapping[str, tuple[np.ndarray, np.ndarray]], *, name: str, dpi: int = 130) -> bytes:
    """Draw predictions against labels, and below the errors against the mean of both (Bland and Altman).

    Args:
        columns: labels (N,) and predictions (N,) by title; empty ones get a remark.
        name: name of the number.
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * max(1, len(columns)), 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, max(1, len(columns)), squeeze=False)
    (shown,) = chart_names([name], longest=_LONGEST_NAME, word="number", first=0)
    for (above, below), title, (labels, given) in zip(
        axes.T, chart_names(list(columns), longest=_LONGEST_TITLE), columns.values(), strict=False
    ):
        above.set_title(title, fontsize=11)
        if not len(labels):
            above.text(0.5, 0.5, "no labeled images", ha="center", va="center", transform=above.transAxes)
            above.set_axis_off()
            below.set_axis_off()
            continue
        ends = [min(labels.min(), given.min()), max(labels.max(), given.max())]
        above.plot(ends, ends, color="#999999", linewidth=1, linestyle=(0, (1, 2)))
        above.scatter(labels, given, s=10, color="#0072B2", alpha=0.6)
        above.set(xlabel=f"{shown}, label", ylabel=f"{shown}, predicted")
        errors, means = given - labels, (given + labels) / 2
        below.scatter(means, errors, s=10, color="#0072B2", alpha=0.6)
        spread = 1.96 * errors.std(ddof=1) if len(errors) > 1 else np.nan
        for value, dash in ((errors.mean(), "-"), (errors.mean() - spread, "--"), (errors.mean() + spread, "--")):
            if np.isfinite(value):
                below.axhline(value, color="#D55E00", linestyle=dash, linewidth=1.5)
        below.set(xlabel="mean of label and prediction", ylabel="prediction minus label")
        for axis in (above, below):
            axis.grid(color="#dddddd", linewidth=0.6)
            axis.tick_params(labelsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _how_good(section: Mapping[str, Any]) -> list[str]:
    patients = f" of {section['n_patients']} patients" if section["n_patients"] else ", of unknown patients"
    bounds = bounds_words(section["intervals"]["mae"], percent=False)
    level = percent(section["resampling"]["level"], digits=0)
    spread = text_number(section["label_sd"])
    return [
        f"{f'{level} interval {bounds}' if bounds else 'No interval'}; the numbers have a mean of "
        f"{text_number(section['label_mean'])} and a standard deviation of {spread}.",
        f"{section['n']} images{patients}.",
    ]


def _on_change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> str:
    if not here or here["mae"] is None or section["mae"] is None:
        return "It cannot be compared with the in-distribution figure, because there is none."
    change = section["mae"] - here["mae"]
    if f"{abs(change):.3f}" == "0.000":
        return "The mean absolute error is the same as in the internal test."
    more = "larger" if change > 0 else "smaller"
    return f"The mean absolute error is {abs(change):.3f} {more} than in the internal test."
