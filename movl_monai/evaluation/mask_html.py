"""The report of a segmentation as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.mask_metrics import FIGURES
from movl_monai.evaluation.mask_summary import how_good, how_sure, on_change, when_not_to_trust
from movl_monai.evaluation.pages.baselines import render_compared, render_comparisons
from movl_monai.evaluation.pages.card import render_model_card, render_origin
from movl_monai.evaluation.pages.figures import MASK_FIGURES, figure_sections
from movl_monai.evaluation.pages.groups import render_groups
from movl_monai.evaluation.pages.parts import (
    big_figure,
    card,
    fit_pictures,
    paragraphs,
    picture,
    ruler,
    section_title,
    text_number,
)
from movl_monai.page import bullets, cell, contents, facts_table, html_page, section, table

__all__ = ["render_mask_html"]

_COLUMNS = 4  # largest number of sections side by side in a table that fits on paper
_CONTENTS = {
    "figures": "All figures",
    "pictures": "Pictures",
    "groups": "Groups",
    "comparisons": "Other runs",
    "classes": "Each class",
    "model-card": "Model card",
    "notes": "Notes",
    "made": "How this was made",
}


def render_mask_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Render a report as a page.

    Args:
        report: report from :func:`~movl_monai.evaluation.build_mask_report`, with ``files``.
        pictures: PNGs by file name, including those of :func:`~movl_monai.evaluation.pages.draw_charts`.

    Returns:
        HTML with links only within the page. Pictures are shrunk if the page would exceed 5 MB.
    """
    shown, sections = fit_pictures(pictures), figure_sections(report)
    body = [
        '<a class="skip" href="#main">To the results</a>',
        "<header><h1>Segmentation report</h1>",
        render_origin(report),
        f'<p dir="auto">Classes: {escape(", ".join(report["classes"]))}. The first is the background and in no '
        "figure.</p>",
        '<p class="notice">For research only; not a medical device and not for diagnosis.</p></header>',
        '<main id="main">',
        _cards(report),
        contents(_CONTENTS),
        _figures(sections, shown),
        _pictures(report, shown),
        render_groups(report, shown),
        render_comparisons(report),
        section("classes", "Each class", [_class_table(name, part) for name, part in sections.items()]),
        render_model_card(report),
        section("notes", "Notes", [bullets(report["notes"]) if report["notes"] else "<p>There are none.</p>"]),
        _how_made(report, sections),
        "</main>",
        "<footer><p>Made by movl_monai. This page loads nothing from anywhere.</p></footer>",
    ]
    return html_page("Segmentation report", body)


def _cards(report: Mapping[str, Any]) -> str:
    here = report["id"]
    boxes = [
        card("here", "How good here", _big(here), how_good(here) if here else ["No test cases were evaluated."]),
        _elsewhere(report),
        card("sure", "How sure", "", how_sure(report)),
        card("other", "Better than other ways?", render_compared(report), []),
        card("outside", "When not to trust it", "", when_not_to_trust(report)),
    ]
    legend = "Lines run from 0 to 1: the dot is the mean Dice, the bar its interval."
    return f'<div class="cards first">{"".join(boxes)}</div><p class="legend">{legend}</p>'


def _elsewhere(report: Mapping[str, Any]) -> str:
    if not report["ood"]:
        unknown = ["No images from elsewhere were evaluated, so nothing is known about other scanners or hospitals."]
        return card("elsewhere", "How good elsewhere", "", unknown)
    parts = [
        f'<div><h3 dir="auto">{escape(name)}</h3>{_big(part)}'
        f"{paragraphs([*how_good(part), *on_change(part, report['id'])])}</div>"
        for name, part in report["ood"].items()
    ]
    return card("elsewhere", "How good elsewhere", f'<div class="places">{"".join(parts)}</div>', [])


def _big(part: Mapping[str, Any] | None) -> str:
    if part is None or part["dice"] is None:
        return ""
    return big_figure(f"{part['dice']:.3f}", "mean Dice") + ruler(part["dice"], part["intervals"]["dice"])


def _figures(sections: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, bytes]) -> str:
    chart = picture(
        pictures.get("overview.png"),
        alternative="Mean Dice of every set of test cases as dots, intervals as lines. The table holds the numbers.",
        caption="Mean Dice with its interval.",
    )
    keys = list(sections)
    chunks = [keys[start : start + _COLUMNS] for start in range(0, len(keys), _COLUMNS)]
    tables = [_figures_table({key: sections[key] for key in chunk}) for chunk in chunks]
    return section("figures", "All figures", [chart, *(tables or ["<p>No cases were evaluated.</p>"])])


def _figures_table(sections: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[cell("Cases"), *(cell(str(part["n"]), number=True) for part in sections.values())]]
    for key in FIGURES:
        name, arrow, _ = MASK_FIGURES[key]
        values = []
        for part in sections.values():
            unit = f" {part['distance_unit']}" if key in ("hd95", "asd") and part[key] is not None else ""
            missing = part["n"] - part["n_defined"][key]
            rest = f" ({missing} without)" if missing else ""
            values.append(cell(text_number(part[key], part["intervals"][key]) + unit + rest, number=True))
        rows.append([cell(f"{name} {arrow}"), *values])
    caption = (
        "Means over the cases, intervals in brackets. ↑ larger is better, ↓ smaller is better. In parentheses how many "
        "cases have no value and are left out; a dash: none has one."
    )
    return table(["Figure", *map(section_title, sections)], rows, caption=caption)


def _class_table(name: str, part: Mapping[str, Any]) -> str:
    rows = [
        [
            cell(label),
            cell(str(values["n"]), number=True),
            *(cell(text_number(values[key]), number=True) for key in FIGURES),
        ]
        for label, values in part["per_class"].items()
    ]
    headings = ["Class", "Cases with it", *(MASK_FIGURES[key][0] for key in FIGURES)]
    return table(headings, rows, caption=f"{section_title(name)}: each class, distances in {part['distance_unit']}.")


def _pictures(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    parts = []
    for key, file in report.get("files", {}).items():
        if file in pictures and key.startswith("cases_picture"):
            where = "Here (ID)" if key == "cases_picture" else f"Elsewhere: {key.removeprefix('cases_picture_')}"
            caption = f"{where}: best, median and worst by Dice. Of a volume the slice with most true foreground."
            parts.append(picture(pictures[file], alternative=caption, caption=caption, wide=True))
    none = '<p class="gap">There are no pictures of cases: none were evaluated, or they were left out on purpose.</p>'
    return section("pictures", "Pictures", parts or [none])


def _how_made(report: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> str:
    draws = [
        f"{section_title(name)}: {part['resampling']['rounds']} resamples of {part['resampling']['num_resampled']} "
        f"{part['resampling']['resampled']}, seed {part['resampling']['seed']}, percentile intervals."
        for name, part in sections.items()
    ]
    meanings = [f"{name}: {meaning}." for name, _, meaning in MASK_FIGURES.values()]
    body = [
        facts_table(report["run"], caption="The run that made this report."),
        f"<h3>Intervals</h3>{bullets(draws)}<h3>What the figures mean</h3>{bullets(meanings)}",
        f"<h3>Empty masks</h3>{bullets(report['empty_masks'])}",
        "<p>Predictions are compared with the masks at the masks' own size, volumes as a whole. Every case with its "
        "figures is in cases.csv, by salted id. Here (ID) means in-distribution, elsewhere (OOD) out-of-distribution: "
        "images of other domains, which training never saw.</p>",
    ]
    return section("made", "How this was made", body)
