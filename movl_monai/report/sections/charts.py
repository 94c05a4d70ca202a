"""Charts of a report, drawn from report.json alone, so that redrawing needs neither images nor network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from movl_monai.metrics.declared import TaskFigures
from movl_monai.report.sections.canvas import COLORS, DASHES, MARKERS, canvas, chart_names, dots, finished, limits
from movl_monai.report.words import section_title

__all__ = ["draw_charts"]


def draw_charts(report: Mapping[str, Any], figures: TaskFigures) -> dict[str, bytes]:
    """Draw the charts for which a report has figures.

    Args:
        report: report from :func:`~movl_monai.evaluation.build_report`.
        figures: figures of its task.

    Returns:
        PNGs by file name: "reliability_0.png", ... in the order of the sections, "ood_detection.png",
        "conformal_coverage.png", "conformal_size.png", "risk_coverage.png", and "groups_0.png", ... in the order of
        the columns. A chart without figures is left out, and the page gives the reason.
    """
    drawn: dict[str, Callable[[], bytes | None]] = {
        "ood_detection.png": lambda: _detection(report.get("ood_detection")),
        "conformal_coverage.png": lambda: _conformal(report.get("conformal"), "coverage"),
        "conformal_size.png": lambda: _conformal(report.get("conformal"), "mean_size"),
        "risk_coverage.png": lambda: _risk_coverage(_sections(report, "abstention")),
    }
    for number, part in enumerate(_sections(report, "calibration").values()):
        drawn[f"reliability_{number}.png"] = functools.partial(_reliability, part.get("reliability") or {})
    for number, column in enumerate(group_columns(report)):
        drawn[f"groups_{number}.png"] = functools.partial(_groups, report["groups"][column], figures.main)
    pictures = {name: draw() for name, draw in drawn.items()}
    return {name: picture for name, picture in pictures.items() if picture is not None}


def group_columns(report: Mapping[str, Any]) -> list[str]:
    """Return the names of the manifest's columns that the report uses as groups."""
    entry = report.get("groups")
    columns = entry if isinstance(entry, Mapping) else {}
    return [str(name) for name, value in columns.items() if isinstance(value, Mapping)]


def group_sections(column: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections of a group column that have groups."""
    return {key: part for key, part in column.items() if key not in ("gaps", "notes") and part}


def _sections(report: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return dict((report.get(key) or {}).get("sections") or {})


def _reliability(bins: Mapping[str, Any]) -> bytes | None:
    if not any(part["n"] for part in bins.get("before") or ()):
        return None
    figure, axis = canvas(width=3.6, height=3.6)
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (1, 2)))
    for series, (when, label) in enumerate((("before", "as trained"), ("after", "with temperature"))):
        points = [part for part in bins.get(when) or () if part["n"]]
        if points:
            sizes = [15 + 120 * part["n"] / sum(point["n"] for point in points) for part in points]
            place = [part["confidence"] for part in points], [part["accuracy"] for part in points]
            color, marker = COLORS[series], MARKERS[series]
            axis.plot(*place, color=color, linestyle=DASHES[series], linewidth=1.2, label=label, marker=marker, ms=3)
            axis.scatter(*place, s=sizes, color=color, marker=marker, alpha=0.75)
    axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="probability it states")
    axis.set_ylabel("share that is right")
    axis.legend(loc="upper left", fontsize=8)
    return finished(figure, legend=False)


def _detection(entry: Mapping[str, Any] | None) -> bytes | None:
    sets = {name: part for name, part in ((entry or {}).get("sets") or {}).items() if part.get("scores")}
    names = list(dict.fromkeys(name for part in sets.values() for name, found in part["scores"].items() if found))
    if not names:
        return None
    figure, axis = canvas(width=6.4, height=1.5 + (0.22 + 0.16 * len(sets)) * len(names))
    for series, (label, part) in enumerate(zip(chart_names(list(sets)), sets.values(), strict=True)):
        found = [part["scores"].get(name) or {} for name in names]
        values, intervals = [one.get("auroc") for one in found], [one.get("auroc_interval") for one in found]
        shift = 0.16 * (series - (len(sets) - 1) / 2)
        shown = [name.replace("_", " ") for name in names]
        dots(axis, shown, values, intervals, series=series, shift=shift, label=f"{label} ({part.get('kind')})")
    axis.axvline(0.5, color="#555555", linestyle=":", linewidth=1.5)
    axis.set(xlim=(0, 1.02), xlabel="AUROC (dotted: guessing)")
    return finished(figure)


def _conformal(entry: Mapping[str, Any] | None, figure_name: str) -> bytes | None:
    methods = {name: part for name, part in ((entry or {}).get("methods") or {}).items() if part.get("sections")}
    keys = list(dict.fromkeys(key for part in methods.values() for key in part["sections"]))
    if entry is None or not keys:
        return None
    figure, axis = canvas(width=5.6, height=1.5 + (0.2 + 0.15 * len(methods)) * len(keys))
    for series, (name, part) in enumerate(methods.items()):
        found = [part["sections"].get(key) or {} for key in keys]
        values, intervals = (
            [one.get(figure_name) for one in found],
            [one.get(f"{figure_name}_interval") for one in found],
        )
        shift = 0.75 / len(methods) * (series - (len(methods) - 1) / 2)
        label = name.replace("_", " ")
        dots(axis, list(map(section_title, keys)), values, intervals, series=series, shift=shift, label=label)
    if figure_name == "coverage":
        axis.axvline(1 - entry["alpha"], color="#555555", linestyle=":", linewidth=1.5)
        axis.set(xlim=(0, 1.02), xlabel="share of sets that hold the label (dotted: asked for)")
    else:
        axis.set_xlabel("classes in a set, on average")
        axis.set_xlim(left=0)
    return finished(figure)


def _risk_coverage(sections: Mapping[str, Any]) -> bytes | None:
    shown = {key: part for key, part in sections.items() if part.get("coverage")}
    if not shown:
        return None
    figure, axis = canvas(width=5.4, height=4.0)
    titles = chart_names([section_title(key) for key in shown])
    for series, (title, part) in enumerate(zip(titles, shown.values(), strict=True)):
        color, dash = COLORS[series % len(COLORS)], DASHES[series % len(DASHES)]
        axis.plot(part["coverage"], part["risk"], color=color, linestyle=dash, linewidth=1.8, label=title)
    axis.set(xlim=(0, 1.02), xlabel="share of images that it answers, surest first", ylabel="share of answers wrong")
    axis.set_ylim(bottom=0)
    return finished(figure)


def _groups(column: Mapping[str, Any], metric: str) -> bytes | None:
    parts = group_sections(column)
    values = list(dict.fromkeys(value for part in parts.values() for value in part))
    if not values:
        return None
    figure, axis = canvas(width=6.4, height=1.5 + (0.22 + 0.18 * len(parts)) * len(values))
    for series, (title, part) in enumerate(
        zip(chart_names(list(map(section_title, parts))), parts.values(), strict=True)
    ):
        groups = [part.get(value) or {} for value in values]
        figures = [group.get(metric) for group in groups]
        intervals = [(group.get("intervals") or {}).get(metric) for group in groups]
        small = [bool(group.get("small")) for group in groups]
        shift = 0.18 * (series - (len(parts) - 1) / 2)
        names = [value or "not stated" for value in values]
        dots(axis, names, figures, intervals, series=series, shift=shift, hollow=small, label=title)
    found = [group for part in parts.values() for group in part.values()]
    axis.set(xlim=limits(found, metric), xlabel=f"{metric.replace('_', ' ')} (hollow: few images)")
    return finished(figure)
