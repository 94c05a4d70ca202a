"""The report as one self-contained page: nothing is loaded from anywhere, so it can be mailed and printed."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from movl_monai.errors import MovlError
from movl_monai.evaluation.files import write_atomically
from movl_monai.evaluation.mask_html import render_mask_html
from movl_monai.evaluation.summary import how_good_elsewhere, how_good_here, how_sure
from movl_monai.evaluation.table import figure_with_interval
from movl_monai.page import bullets, cell, facts_table, html_page, table

__all__ = ["render_html", "write_html"]

# name, whether larger is better, meaning
_FIGURES: dict[str, tuple[str, str, str]] = {
    "accuracy": ("Accuracy", "↑", "share of images whose most probable class is their label"),
    "balanced_accuracy": ("Balanced accuracy", "↑", "mean sensitivity of all classes"),
    "auroc": ("AUROC", "↑", "area under the ROC curve, each class against the rest, mean over the classes"),
    "average_precision": ("Average precision", "↑", "each class against the rest, mean over the classes"),
    "quadratic_kappa": ("Quadratic kappa", "↑", "agreement beyond chance; only means something for ordered classes"),
    "cross_entropy": ("Cross entropy", "↓", "mean negative log likelihood of the label, in nats"),
    "brier": ("Brier score", "↓", "squared distance of probabilities and label, summed over classes, 0 to 2"),
    "ece": ("Calibration error", "↓", "expected calibration error (ECE) over 15 bins of equal width"),
}
_CLASS_FIGURES = {
    "n": "Images",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auroc": "AUROC",
    "average_precision": "Average precision",
}
_STYLE = "img.prompt { width: 20rem; image-rendering: pixelated; }\n"


def write_html(folder: str | os.PathLike[str]) -> Path:
    """Write report.html from the report.json and the pictures of a folder.

    Raises:
        MovlError: if there is no report.json, it cannot be understood, or the page cannot be written.
    """
    source = Path(folder)
    try:
        report = json.loads((source / "report.json").read_text(encoding="utf-8"))
        pictures = {name: (source / name).read_bytes() for name in report["files"].values() if name.endswith(".png")}
        render = render_mask_html if report.get("task") == "segmentation" else render_html
        page = render(report, pictures)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MovlError(
            f"No page can be made from {source.name}: {type(error).__name__}. Expected the folder of an evaluation, "
            "with its report.json and pictures; evaluate again."
        ) from error
    write_atomically(source / "report.html", page.encode())
    return source / "report.html"


def render_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Render a report as a page.

    Args:
        report: as :func:`~movl_monai.evaluation.build_report` gives it.
        pictures: PNGs by file name; "figure.png", "prompt.png" and "attention.png" are shown if they are there.

    Returns:
        HTML; its only links are to places in the page.
    """
    sections = _sections(report)
    body = [
        "<header><h1>Evaluation report</h1>",
        f"<p>Classes: {escape(', '.join(report['classes']))}.</p>",
        '<p class="notice">For research only; not a medical device and not for diagnosis.</p></header>',
        "<main>",
        _cards(report),
        "<h2>All figures</h2>",
        _figures_table(sections),
        _pictures(pictures, sections),
        "<h2>Each class</h2>",
        *(_class_table(name, section) for name, section in sections.items()),
        *([f"<h2>Notes</h2>{bullets(report['notes'])}"] if report["notes"] else []),
        _how_made(report, sections),
        "</main>",
    ]
    return html_page("Evaluation report", body, style=_STYLE)


def _sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    named = {"ID": report["id"], **{f"OOD: {name}": part for name, part in report["ood"].items()}}
    named["val (selection)"] = report.get("val")
    return {name: part for name, part in named.items() if part is not None}


def _cards(report: Mapping[str, Any]) -> str:
    here = _card("here", "How good here", _big(report["id"]), how_good_here(report))
    elsewhere = [
        _card("elsewhere", f"How good elsewhere: {name}", _big(report["ood"][name]), sentences)
        for name, sentences in how_good_elsewhere(report).items()
    ]
    if not elsewhere:
        unknown = ["No images from elsewhere were evaluated, so nothing is known about other scanners or hospitals."]
        elsewhere = [_card("elsewhere", "How good elsewhere", "", unknown)]
    sure = _card("sure", "How sure", "", how_sure(report))
    return f'<div class="cards">{here}{"".join(elsewhere)}{sure}</div>'


def _card(kind: str, title: str, big: str, sentences: Iterable[str]) -> str:
    text = "".join(f"<p>{escape(sentence).replace(' %', '&nbsp;%')}</p>" for sentence in sentences)
    return f'<section class="card {kind}"><h2>{escape(title)}</h2>{big}{text}</section>'


def _big(section: Mapping[str, Any] | None) -> str:
    for key, name in (("balanced_accuracy", "balanced accuracy"), ("accuracy", "accuracy")):
        if section is not None and section[key] is not None:
            return f'<p class="big">{100 * section[key]:.1f} % <small>{name}</small></p>'
    return ""


def _figures_table(sections: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[cell("Labeled images"), *(cell(str(part["n"]), number=True) for part in sections.values())]]
    for key, (name, arrow, _) in _FIGURES.items():
        values = [figure_with_interval(part[key], part["intervals"].get(key)) for part in sections.values()]
        rows.append([cell(f"{name} {arrow}"), *(cell(value, number=True) for value in values)])
    caption = (
        "Intervals in brackets. ↑ larger is better, ↓ smaller is better. A dash: the figure has no value, see notes."
    )
    return table(["Figure", *sections], rows, caption=caption)


def _class_table(name: str, section: Mapping[str, Any]) -> str:
    rows = [
        [cell(label), *(cell(_number(values[key]), number=True) for key in _CLASS_FIGURES)]
        for label, values in section["per_class"].items()
    ]
    return table(["Class", *_CLASS_FIGURES.values()], rows, caption=f"{name}: each class against the rest.")


def _pictures(pictures: Mapping[str, bytes], sections: Mapping[str, Any]) -> str:
    shown = ", ".join(name for name in sections if not name.startswith("val"))
    texts = {
        "figure.png": (
            f"Confusion matrix above ROC curves, one column each for {shown}. The tables hold the numbers.",
            "Confusion matrices (rows are labels, columns predictions; the darker, the larger the share of the row) "
            "and ROC curves.",
        ),
        "prompt.png": (
            "What the visual prompt adds to every image, amplified to the full range.",
            "The learned visual prompt, amplified: mid-grey adds nothing, brighter adds, darker takes away.",
        ),
        "attention.png": (
            "Maps of the attention of every dynamic prompt over the image, by block.",
            "What each dynamic prompt looked at, on ID test images: 1 is what a prompt without preference gives every "
            "place, 2 twice as much. Attention says where a prompt reads, not why the network decides.",
        ),
    }
    parts = []
    for name, (alternative, caption) in texts.items():
        if name in pictures:
            data = base64.b64encode(pictures[name]).decode()
            image = f'<img class="{name[:-4]}" src="data:image/png;base64,{data}" alt="{escape(alternative)}">'
            parts.append(f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>")
    return "<h2>Pictures</h2>" + "".join(parts) if parts else ""


def _how_made(report: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> str:
    meanings = [f"{name}: {meaning}." for name, _, meaning in _FIGURES.values()]
    draws = [
        f"{name}: {part['resampling']['rounds']} resamples of {part['resampling']['num_resampled']} "
        f"{part['resampling']['resampled']}, seed {part['resampling']['seed']}, percentile intervals."
        for name, part in sections.items()
    ]
    made = facts_table(report["run"], caption="The run that made this report.")
    return (
        f"<h2>How this was made</h2>{made}<h3>Intervals</h3>{bullets(draws)}<h3>What the figures mean</h3>"
        f"{bullets(meanings)}<p>Every image with its label, prediction and probabilities is in predictions.csv, by "
        "salted id. ID means in-distribution: test images from the domain of the training images. OOD means "
        "out-of-distribution: images of other domains, which training never saw.</p>"
    )


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
