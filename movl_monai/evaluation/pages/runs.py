"""Several runs on one page: a column for each, and meaningful differences to the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from movl_monai.evaluation.pages.baselines import difference_words
from movl_monai.evaluation.pages.canvas import canvas, chart_names, dots, finished
from movl_monai.evaluation.pages.figures import FIGURES, MASK_FIGURES, figure_sections
from movl_monai.evaluation.pages.parts import (
    big_figure,
    card,
    domain_of,
    gap,
    listed,
    number_cell,
    paragraphs,
    percent,
    picture,
    readable,
    ruler,
    section_title,
)
from movl_monai.page import bullets, cell, contents, html_page, section, table, text_cell

__all__ = ["draw_runs", "render_runs"]

_COLUMNS = 4  # largest number of runs side by side in a table that fits on paper
_CONTENTS = {
    "figures": "Figures",
    "differences": "Differences",
    "trust": "When to trust them",
    "facts": "How they differ",
}
_FACTS = (
    *("strategy", "prompt", "adapter", "head", "trainable_parameters", "trainable_percent", "backbone", "seed"),
    *("checkpoint_bytes", "git_commit", "versions", "device"),
)


def render_runs(compared: Mapping[str, Any], chart: bytes | None) -> str:
    """Render a comparison as a page.

    Args:
        compared: result of :func:`~movl_monai.evaluation.several_runs.compare_reports`.
        chart: result of :func:`draw_runs`.

    Returns:
        HTML with links only within the page.
    """
    reports = compared["reports"]
    body = [
        '<a class="skip" href="#main">To the results</a>',
        f"<header><h1>{len(reports)} runs compared</h1>",
        f'<p dir="auto">Differences are to the first run, {escape(compared["names"][0])}.</p>',
        '<p class="notice">For research only; not a medical device and not for diagnosis.</p></header>',
        '<main id="main">',
        _cards(compared),
        contents(_CONTENTS),
        _figures(compared, chart),
        _differences(compared),
        _trust(reports),
        _facts(reports),
        "</main>",
        "<footer><p>Made by movl_monai. This page loads nothing from anywhere.</p></footer>",
    ]
    return html_page(f"{len(reports)} runs compared", body)


def draw_runs(compared: Mapping[str, Any]) -> bytes | None:
    """Draw the main figure of every run on every set of test images as a PNG; None without a figure."""
    reports, metric = compared["reports"], _main(compared)
    keys = [key for key in _keys(reports) if _tested(key)]
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


def _cards(compared: Mapping[str, Any]) -> str:
    boxes = []
    for number, (name, report) in enumerate(compared["reports"].items()):
        here, metric = report.get("id"), _main(compared)
        value = here[metric] if here else None
        big = ""
        if here and value is not None:
            name_of = "mean Dice" if metric == "dice" else "balanced accuracy"
            big = big_figure(_value(value, metric), f"{name_of} here") + ruler(value, here["intervals"].get(metric))
        lines = [f"{domain}: {_value(part[metric], metric)}" for domain, part in (report.get("ood") or {}).items()]
        text = bullets(lines) if lines else paragraphs(["Not evaluated on images from elsewhere."])
        kept = (report.get("model_card") or {}).get("kept_start")
        big = (f'<p class="alarm">{escape(kept)}</p>' if kept else "") + big
        boxes.append(card(f"run-{number}", name, big + text + _than_first(compared, name), []))
    return f'<div class="cards">{"".join(boxes)}</div>'


def _value(value: float | None, metric: str) -> str:
    return f"{value:.3f}" if metric == "dice" and value is not None else percent(value)


def _than_first(compared: Mapping[str, Any], name: str) -> str:
    entry = compared["differences"].get(name)
    if entry is None:
        return paragraphs(["The run that the others are held against."])
    lines = [
        f"{'here' if key == 'id' else domain_of(key)}: {difference_words(metrics or {})}"
        for key, metrics in (entry.get("sections") or {}).items()
    ]
    if not lines:
        return gap("No difference can be given.", map(readable, entry.get("notes") or ()))
    return f"<h3>Than the first run</h3>{bullets(lines)}"


def _figures(compared: Mapping[str, Any], chart: bytes | None) -> str:
    reports = compared["reports"]
    shown = picture(
        chart,
        alternative="The main figure of every run on every set of test images. The tables hold the numbers.",
        caption="Dots are the figures, lines their intervals, each run by itself.",
    )
    names = MASK_FIGURES if compared["task"] == "segmentation" else FIGURES
    tables = []
    for key in _keys(reports):
        for chunk in _chunks(list(reports)):
            parts = {name: figure_sections(reports[name]).get(key) for name in chunk}
            tables.append(_section_table(key, parts, names))
    return section("figures", "Figures", [shown, *tables] if tables else [gap("There are no figures.")])


def _section_table(key: str, parts: Mapping[str, Mapping[str, Any] | None], names: Mapping[str, Any]) -> str:
    rows = [[cell("Number"), *(number_cell(part["n"] if part else None) for part in parts.values())]]
    for figure in names:
        if any(part and figure in part for part in parts.values()):
            values = [
                number_cell(part.get(figure), part["intervals"].get(figure)) if part else number_cell(None)
                for part in parts.values()
            ]
            title, arrow, _ = names[figure]
            rows.append([cell(f"{title} {arrow}"), *values])
    counts = {part["n"] for part in parts.values() if part}
    odd = " The runs have different numbers of images here, so that these are not the same." if len(counts) > 1 else ""
    caption = (
        f"{section_title(key)}, intervals in brackets. A dash: not evaluated, or no value (see the run's report).{odd}"
    )
    return table(["Figure", *parts], rows, caption=caption)


def _differences(compared: Mapping[str, Any]) -> str:
    lead = (
        "Both runs on the same images, resampled together, so that what makes an image hard for both cancels out. An "
        "interval that holds 0 may be chance; of many differences some are clear by chance."
    )
    parts = [f"<p>{lead}</p>"]
    for name, entry in compared["differences"].items():
        parts.append(f'<h3 dir="auto">{escape(name)} minus {escape(compared["names"][0])}</h3>')
        rows = [
            [
                cell(section_title(key)),
                text_cell(metric.replace("_", " ")),
                number_cell(found.get("a")),
                number_cell(found.get("b")),
                number_cell(found.get("difference"), found.get("interval")),
            ]
            for key, metrics in (entry.get("sections") or {}).items()
            for metric, found in metrics.items()
        ]
        notes = [readable(note) for note in entry.get("notes") or ()]
        if rows:
            headings = ["Images", "Figure", name, "The first", "Difference"]
            parts += [table(headings, rows, caption="Paired differences, intervals in brackets.")]
            parts += [listed(notes)]
        else:
            parts.append(gap("No difference can be given.", notes))
    return section("differences", "Differences", parts)


def _trust(reports: Mapping[str, Mapping[str, Any]]) -> str:
    tables = []
    found = {name: dict(_trust_rows(report)) for name, report in reports.items()}
    titles = list(dict.fromkeys(title for rows in found.values() for title in rows))
    if not titles:
        return section(
            "trust",
            "When to trust them",
            [gap("No run has such figures.", ["Segmentations have none; evaluate classifications again."])],
        )
    for chunk in _chunks(list(reports)):
        rows = [[cell(title), *(number_cell(found[name].get(title)) for name in chunk)] for title in titles]
        tables.append(table(["Figure", *chunk], rows, caption="A dash: not in the report of that run, which says why."))
    return section("trust", "When to trust them", tables)


def _trust_rows(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows = []
    for key, part in ((report.get("calibration") or {}).get("sections") or {}).items():
        if _tested(key):
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
        rows += [(f"Share marked as outside ↑, {name}", part.get("flagged"))]
    if detection.get("id_flagged") is not None:
        rows.append(("Share marked as outside ↓, Here (ID)", detection["id_flagged"]))
    for method, entry in ((report.get("conformal") or {}).get("methods") or {}).items():
        for key, part in (entry.get("sections") or {}).items():
            if _tested(key) and method in ("lac", "aps"):
                rows.append((f"Coverage of {method.upper()} sets, {section_title(key)}", part.get("coverage")))
    for key, part in ((report.get("abstention") or {}).get("sections") or {}).items():
        if _tested(key):
            rows.append((f"AURC ↓, {section_title(key)}", part.get("aurc")))
    return rows


def _facts(reports: Mapping[str, Mapping[str, Any]]) -> str:
    rows_of = {
        name: _flat({key: (report.get("run") or {}).get(key) for key in _FACTS}) for name, report in reports.items()
    }
    titles = list(dict.fromkeys(title for facts in rows_of.values() for title in facts))
    differing = [title for title in titles if len({facts.get(title) for facts in rows_of.values()}) > 1]
    if not differing:
        return section("facts", "How they differ", ["<p>Nothing that was recorded of these runs differs.</p>"])
    tables = []
    for chunk in _chunks(list(reports)):
        rows = [
            [cell(title), *(text_cell(rows_of[name].get(title) or "none") for name in chunk)] for title in differing
        ]
        tables.append(
            table(["Fact", *chunk], rows, caption="What was recorded of the runs and is not the same in all.")
        )
    return section("facts", "How they differ", tables)


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


def _tested(key: str) -> bool:
    return key == "id" or key.startswith("ood:")


def _main(compared: Mapping[str, Any]) -> str:
    return "dice" if compared["task"] == "segmentation" else "balanced_accuracy"


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + _COLUMNS] for start in range(0, len(names), _COLUMNS)]
