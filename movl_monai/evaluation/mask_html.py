"""The report of a segmentation as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.mask_metrics import FIGURES
from movl_monai.evaluation.table import figure_with_interval
from movl_monai.page import bullets, cell, facts_table, html_page, table

__all__ = ["render_mask_html"]

# name, whether larger is better, meaning
_FIGURES: dict[str, tuple[str, str, str]] = {
    "dice": ("Dice", "↑", "twice the common area over the sum of both areas, 0 to 1"),
    "iou": ("IoU", "↑", "common area over the united area, 0 to 1"),
    "sensitivity": ("Sensitivity", "↑", "share of the true area that was found"),
    "precision": ("Precision", "↑", "share of the predicted area that is true"),
    "hd95": ("HD95", "↓", "95th percentile of the distances between the two outlines, the larger of both directions"),
    "asd": ("Average surface distance", "↓", "mean distance from either outline to the other"),
}


def render_mask_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Render a report as a page.

    Args:
        report: as :func:`~movl_monai.evaluation.build_mask_report` gives it, with ``files``.
        pictures: PNGs by file name.

    Returns:
        HTML; its only links are to places in the page.
    """
    sections = _sections(report)
    body = [
        "<header><h1>Segmentation report</h1>",
        f"<p>Classes: {escape(', '.join(report['classes']))}. The first is the background and in no figure.</p>",
        '<p class="notice">For research only; not a medical device and not for diagnosis.</p></header>',
        "<main>",
        _cards(report),
        "<h2>All figures</h2>",
        _figures_table(sections),
        _pictures(report, pictures),
        "<h2>Each class</h2>",
        *(_class_table(name, section) for name, section in sections.items()),
        *([f"<h2>Notes</h2>{bullets(report['notes'])}"] if report["notes"] else []),
        _how_made(report, sections),
        "</main>",
    ]
    return html_page("Segmentation report", body)


def _sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    named = {"ID": report["id"], **{f"OOD: {name}": part for name, part in report["ood"].items()}}
    named["val (selection)"] = report.get("val")
    return {name: part for name, part in named.items() if part is not None}


def _cards(report: Mapping[str, Any]) -> str:
    here = report["id"]
    parts = [_card("here", "How good here", here, _sentences(here) if here else ["No test cases were evaluated."])]
    for name, section in report["ood"].items():
        sentences = [*_sentences(section), *_change(section, here)]
        parts.append(_card("elsewhere", f"How good elsewhere: {name}", section, sentences))
    if not report["ood"]:
        unknown = ["No images from elsewhere were evaluated, so nothing is known about other scanners or hospitals."]
        parts.append(_card("elsewhere", "How good elsewhere", None, unknown))
    section = next(iter(_sections(report).values()), None)
    parts.append(_card("sure", "How sure", None, ["Nothing was evaluated."] if section is None else _sure(section)))
    return f'<div class="cards">{"".join(parts)}</div>'


def _card(kind: str, title: str, section: Mapping[str, Any] | None, sentences: Iterable[str]) -> str:
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    big = "" if section is None else f'<p class="big">{section["dice"]:.3f} <small>mean Dice</small></p>'
    return f'<section class="card {kind}"><h2>{escape(title)}</h2>{big}{text}</section>'


def _sentences(section: Mapping[str, Any]) -> list[str]:
    volumes = section["n_images"] > section["n"]
    what = _count(section["n"], "volume" if volumes else "image")
    what += f" ({_count(section['n_images'], 'slice')})" if volumes else ""
    patients = f" of {_count(section['n_patients'], 'patient')}" if section["n_patients"] else ""
    interval = section["intervals"]["dice"]
    level = f"{100 * section['resampling']['level']:.0f} %"
    words = "no interval" if interval is None else f"{level} interval {interval[0]:.3f} to {interval[1]:.3f}"
    low, high = section["dice_quartiles"]
    sentences = [f"On {what}{patients} the mean Dice is {section['dice']:.3f} ({words})."]
    if section["n"] > 1:
        middle = f"the middle one at {section['dice_median']:.3f}"
        sentences.append(f"Half of them lie between {low:.3f} and {high:.3f}, {middle}.")
    if section["hd95"] is not None:
        defined, unit = section["n_defined"]["hd95"], section["distance_unit"]
        cases = f"the {_count(defined, 'case')} that {'has' if defined == 1 else 'have'} one"
        sentences.append(f"HD95 is {section['hd95']:.1f} {unit} on average, over {cases}.")
    return sentences


def _change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> list[str]:
    if here is None:
        return ["It cannot be compared with the in-distribution figure, because there is none."]
    points = section["dice"] - here["dice"]
    if abs(points) < 0.0005:
        return ["The mean Dice is the same as here."]
    return [f"The mean Dice is {abs(points):.3f} {'higher' if points > 0 else 'lower'} than here."]


def _sure(section: Mapping[str, Any]) -> list[str]:
    draws = section["resampling"]
    if section["intervals"]["dice"] is None:
        return [f"Not at all: there is no interval from {_count(section['n'], 'case')}; see the notes."]
    unit = "patients (all cases of a patient together)" if draws["resampled"] == "patients" else draws["resampled"]
    sentences = [f"The intervals come from {draws['rounds']} resamples of the {unit}."]
    if draws["resampled"] != "patients":
        sentences.append("Patients are not known. If there are several cases per patient, they are too narrow.")
    return [*sentences, "They do not cover another training run, other scanners than those listed, or wrong masks."]


def _figures_table(sections: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[cell("Cases"), *(cell(str(part["n"]), number=True) for part in sections.values())]]
    for key in FIGURES:
        name, arrow, _ = _FIGURES[key]
        values = []
        for part in sections.values():
            unit = f" {part['distance_unit']}" if key in ("hd95", "asd") and part[key] is not None else ""
            missing = part["n"] - part["n_defined"][key]
            rest = f" ({missing} without)" if missing else ""
            values.append(cell(figure_with_interval(part[key], part["intervals"][key]) + unit + rest, number=True))
        rows.append([cell(f"{name} {arrow}"), *values])
    caption = (
        "Means over the cases, intervals in brackets. ↑ larger is better, ↓ smaller is better. In parentheses how many "
        "cases have no value and are left out."
    )
    return table(["Figure", *sections], rows, caption=caption)


def _class_table(name: str, section: Mapping[str, Any]) -> str:
    rows = [
        [
            cell(label),
            cell(str(values["n"]), number=True),
            *(cell(_number(values[key]), number=True) for key in FIGURES),
        ]
        for label, values in section["per_class"].items()
    ]
    headings = ["Class", "Cases with it", *(_FIGURES[key][0] for key in FIGURES)]
    return table(headings, rows, caption=f"{name}: each class, distances in {section['distance_unit']}.")


def _pictures(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    parts = []
    for key, file in report.get("files", {}).items():
        if file in pictures:
            title = "ID test cases" if key == "cases_picture" else f"OOD cases: {key.removeprefix('cases_picture_')}"
            caption = f"{title}: best, median and worst by Dice. Of a volume the slice with most true foreground."
            data = base64.b64encode(pictures[file]).decode()
            image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
            parts.append(f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>")
    return "<h2>Pictures</h2>" + "".join(parts) if parts else ""


def _how_made(report: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> str:
    made = facts_table(report["run"], caption="The run that made this report.")
    draws = [
        f"{name}: {part['resampling']['rounds']} resamples of {part['resampling']['num_resampled']} "
        f"{part['resampling']['resampled']}, seed {part['resampling']['seed']}, percentile intervals."
        for name, part in sections.items()
    ]
    meanings = [f"{name}: {meaning}." for name, _, meaning in _FIGURES.values()]
    return (
        f"<h2>How this was made</h2>{made}<h3>Intervals</h3>{bullets(draws)}<h3>What the figures mean</h3>"
        f"{bullets(meanings)}<h3>Empty masks</h3>{bullets(report['empty_masks'])}<p>Predictions are compared with the "
        "masks at the masks' own size, volumes as a whole. Every case with its figures is in cases.csv, by salted id. "
        "ID means in-distribution, OOD out-of-distribution: images of other domains, which training never saw.</p>"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
