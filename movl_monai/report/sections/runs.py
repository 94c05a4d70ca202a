"""Several runs on one page: a column for each, and meaningful differences to the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.metrics.declared import Figure, TaskFigures
from movl_monai.report import render_template
from movl_monai.report.sections.canvas import canvas, chart_names, dots, finished
from movl_monai.report.sections.figures import difference_lines, figure_sections
from movl_monai.report.words import is_tested, percent, readable, section_title

__all__ = ["draw_runs", "render_runs"]

_COLUMNS = 4  # largest number of runs side by side in a table that fits on paper
_FACTS = (
    *("strategy", "prompt", "adapter", "head", "trainable_parameters", "trainable_percent", "backbone", "seed"),
    *("checkpoint_bytes", "git_commit", "versions", "device"),
)


def render_runs(compared: Mapping[str, Any], figures: TaskFigures, chart: bytes | None) -> str:
    """Render a comparison as a page.

    Args:
        compared: result of :func:`~movl_monai.report.several_runs.compare_reports`.
        figures: figures of the task.
        chart: result of :func:`draw_runs`.

    Returns:
        HTML with links only within the page.
    """
    reports = compared["reports"]
    trust = {name: dict(_trust_rows(report)) for name, report in reports.items()}
    facts = {
        name: _flat({key: (report.get("run") or {}).get(key) for key in _FACTS}) for name, report in reports.items()
    }
    return render_template(
        "runs.html",
        reports=reports,
        names=compared["names"],
        differences=compared["differences"],
        chart=chart,
        cards=[_card(compared, name, figures) for name in reports],
        tables=_tables(reports),
        figures=figures.titles(),
        figure_name=figures.declared[figures.main].phrase,
        trust=trust,
        trust_titles=_titles(trust),
        facts=facts,
        differing=[title for title in _titles(facts) if len({found.get(title) for found in facts.values()}) > 1],
    )


def draw_runs(compared: Mapping[str, Any], figures: TaskFigures) -> bytes | None:
    """Draw the main figure of every run on every set of test images as a PNG; None without a figure."""
    reports, metric = compared["reports"], figures.main
    keys = [key for key in _keys(reports) if is_tested(key)]
    if not keys:
        return None
    figure, axis = canvas(width=6.4, height=1.4 + (0.2 + 0.17 * len(reports)) * len(keys))
    for series, (name, report) in enumerate(zip(chart_names(list(reports)), reports.values(), strict=True)):
        parts = [figure_sections(report).get(key) or {} for key in keys]
        values = [part.get(metric) for part in parts]
        intervals = [(part.get("intervals") or {}).get(metric) for part in parts]
        shift = 0.75 / len(reports) * (series - (len(reports) - 1) / 2)
        dots(axis, list(map(section_title, keys)), values, intervals, series=series, shift=shift, label=name)
    axis.set(xlim=(0, 1.02), xlabel=metric.replace("_", " "))
    return finished(figure)


def _card(compared: Mapping[str, Any], name: str, figures: TaskFigures) -> dict[str, Any]:
    report, metric = compared["reports"][name], figures.main
    main = figures.declared[metric]
    here, entry = report.get("id"), compared["differences"].get(name)
    value = here[metric] if here else None
    return {
        "name": name,
        "kept_start": (report.get("model_card") or {}).get("kept_start"),
        "big": None if value is None else _value(value, main),
        "value": value,
        "interval": here["intervals"].get(metric) if here else None,
        "elsewhere": [f"{key}: {_value(part[metric], main)}" for key, part in (report.get("ood") or {}).items()],
        "first": entry is None,
        "differences": difference_lines((entry or {}).get("sections") or {}, figures),
        "notes": [readable(note) for note in (entry or {}).get("notes") or ()],
    }


def _value(value: float | None, figure: Figure) -> str:
    return percent(value) if figure.percent or value is None else f"{value:.3f}"


def _tables(reports: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, dict[str, Mapping[str, Any] | None]]]:
    """Return the figures of a section by run, for every section and for the runs of every table."""
    names = list(reports)
    chunks = [names[start : start + _COLUMNS] for start in range(0, len(names), _COLUMNS)]
    sections = {name: figure_sections(report) for name, report in reports.items()}
    return [(key, {name: sections[name].get(key) for name in chunk}) for key in _keys(reports) for chunk in chunks]


def _titles(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(title for found in rows.values() for title in found))


def _trust_rows(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows = []
    for key, part in ((report.get("calibration") or {}).get("sections") or {}).items():
        if is_tested(key):
            rows.append(
                (
                    f"Calibration error after the temperature ↓, {section_title(key)}",
                    (part.get("after") or {}).get("ece"),
                )
            )
    detection = report.get("ood_detection") or {}
    chosen = (detection.get("chosen") or {}).get("score")
    for name, part in (detection.get("sets") or {}).items():
        score = ((part.get("scores") or {}).get(chosen)) or {}
        rows += [(f"AUROC of the chosen OOD score ↑, {name}", score.get("auroc"))]
        rows += [(f"Share flagged as OOD ↑, {name}", part.get("flagged"))]
    if detection.get("id_flagged") is not None:
        rows.append(("Share flagged as OOD ↓, Internal test (ID)", detection["id_flagged"]))
    for method, entry in ((report.get("conformal") or {}).get("methods") or {}).items():
        for key, part in (entry.get("sections") or {}).items():
            if is_tested(key) and method in ("lac", "aps"):
                rows.append((f"Coverage of {method.upper()} sets, {section_title(key)}", part.get("coverage")))
    for key, part in ((report.get("abstention") or {}).get("sections") or {}).items():
        if is_tested(key):
            rows.append((f"AURC ↓, {section_title(key)}", part.get("aurc")))
    return rows


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Return nested facts by their path in words, without None."""
    if isinstance(value, Mapping):
        pairs = [(f"{name} {key}".strip().replace("_", " "), part) for key, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        pairs = [(f"{name} {number}", part) for number, part in enumerate(value, start=1)]
    else:
        return {} if value is None else {name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)}
    return {title: text for key, part in pairs for title, text in _flat(part, key).items()}


def _keys(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for report in reports.values() for key in figure_sections(report)))
