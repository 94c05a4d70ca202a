"""Several runs on one page: a column for each, and meaningful differences to the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from movl_monai.metrics.declared import Figure, TaskFigures
from movl_monai.report import render_template
from movl_monai.report.sections.canvas import canvas, chart_names, dots, finished, limits
from movl_monai.report.sections.figures import difference_lines, difference_rows, figure_sections, verdict
from movl_monai.report.sections.title import page_title
from movl_monai.report.words import domain_of, is_tested, percent, readable, section_title

__all__ = ["draw_runs", "render_runs"]

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
        methods={name: page_title(report) for name, report in reports.items()},
        verdicts=_verdicts(compared, figures),
        differences={
            name: {**entry, "rows": difference_rows(entry, figures)} for name, entry in compared["differences"].items()
        },
        chart=chart,
        cards=[_card(compared, name, figures) for name in reports],
        rows=_rows(reports),
        uneven=_uneven(reports),
        main=figures.main,
        figures=figures.titles(max(len(report["classes"]) for report in reports.values())),
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
    shown = [part for report in reports.values() for part in figure_sections(report).values()]
    axis.set(xlim=limits(shown, metric), xlabel=metric.replace("_", " "))
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


def _rows(reports: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Mapping[str, Any] | None]]:
    """Return section, run and figures, for every section and run; None without figures."""
    sections = {name: figure_sections(report) for name, report in reports.items()}
    return [(key, name, sections[name].get(key)) for key in _keys(reports) for name in reports]


def _uneven(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the sections in which the runs have different numbers of images."""
    counts: dict[str, set[int]] = {}
    for key, _, part in _rows(reports):
        if part is not None:
            counts.setdefault(key, set()).add(part["n"])
    return [key for key, numbers in counts.items() if len(numbers) > 1]


def _verdicts(compared: Mapping[str, Any], figures: TaskFigures) -> list[str]:
    """Return sentences on which runs are clearly better or worse than the first, and what to do if none is better."""
    first, *others = compared["names"]
    sentences, unclear, better = [], [], False
    for key in filter(is_tested, _keys(compared["reports"])):
        place = "in the internal test" if key == "id" else f"on {domain_of(key)}"
        entries = {name: (compared["differences"][name].get("sections") or {}).get(key) for name in others}
        found = {name: verdict(metrics, figures) for name, metrics in entries.items() if metrics}
        clear = {
            word: names for word in ("better", "worse") if (names := [name for name in found if found[name] == word])
        }
        better = better or "better" in clear
        if clear:
            words = " and ".join(f"{_and(names)} clearly {word}" for word, names in clear.items())
            sentences.append(f"Against {first} {place}: {words}.")
        elif any(found.values()):
            unclear.append(place)
    if unclear:
        sentences.append(f"No run is clearly better or worse than {first} {_and(unclear)}.")
    runs = {name: report.get("run") or {} for name, report in compared["reports"].items()}
    sizes = {name: int(size) for name, run in runs.items() if (size := run.get("trainable_parameters")) is not None}
    if sentences and not better and len(sizes) == len(runs):
        least = min(sizes, key=lambda name: sizes[name])
        sentences.append(f"None is better: take the one that trained least, {least}.")
    return sentences


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


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
            if is_tested(key) and method in ("lac", "aps", "ordinal_aps"):
                rows.append(
                    (f"Coverage of {method.replace('_', ' ').upper()} sets, {section_title(key)}", part.get("coverage"))
                )
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
