"""The report as one self-contained page: it loads nothing, so it can be mailed and printed."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from html import escape
from pathlib import Path
from typing import Any

from movl_monai.errors import MovlError
from movl_monai.evaluation.mask_html import render_mask_html
from movl_monai.evaluation.pages.baselines import render_comparisons
from movl_monai.evaluation.pages.calibration import render_calibration
from movl_monai.evaluation.pages.card import render_explanations, render_model_card, render_origin
from movl_monai.evaluation.pages.charts import draw_charts
from movl_monai.evaluation.pages.conformal import render_abstention, render_conformal
from movl_monai.evaluation.pages.detection import render_detection
from movl_monai.evaluation.pages.figures import FIGURES, figure_sections, render_classes, render_figures
from movl_monai.evaluation.pages.first_screen import render_cards
from movl_monai.evaluation.pages.groups import render_groups
from movl_monai.evaluation.pages.operating_points import render_operating_points
from movl_monai.evaluation.pages.parts import fit_pictures, section_title
from movl_monai.files import write_atomically
from movl_monai.page import bullets, contents, facts_table, html_page, section

__all__ = ["READABLE_SCHEMAS", "read_report", "render_html", "write_html"]

READABLE_SCHEMAS = (1, 2)
_STYLE = (
    "img.prompt { width: 20rem; image-rendering: pixelated; }\n"
    ".tables { display: flex; flex-wrap: wrap; gap: 0 2rem; } .tables > * { min-width: 0; }\n"
    "@media print { .tables { display: block; } }\n"
)
_CONTENTS = {
    "figures": "All figures",
    "calibration": "Probabilities",
    "detection": "Images from outside",
    "conformal": "Sets of classes",
    "abstention": "Abstention",
    "operating-points": "Operating points",
    "groups": "Groups",
    "comparisons": "Other runs",
    "explanations": "Where it looks",
    "classes": "Each class",
    "model-card": "Model card",
    "notes": "Notes",
    "made": "How this was made",
}


def write_html(folder: str | os.PathLike[str]) -> Path:
    """Write report.html from the report.json and the pictures of a folder; charts are redrawn.

    Raises:
        MovlError: if report.json is missing or invalid, or the page cannot be written.
    """
    source = Path(folder)
    report = read_report(source)
    try:
        charts = draw_charts(report)
        render = render_mask_html if report.get("task") == "segmentation" else render_html
        page = render(report, charts | _read_pictures(source, report, drawn=charts))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_a_report(source, error) from error
    write_atomically(source / "report.html", page.encode())
    return source / "report.html"


def read_report(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the report.json of an evaluation folder.

    Raises:
        MovlError: if it is missing, damaged, or of an unsupported schema version.
    """
    source = Path(folder)
    try:
        report = json.loads((source / "report.json").read_text(encoding="utf-8"))
        version, _ = report["schema_version"], report["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _not_a_report(source, error) from error
    if version not in READABLE_SCHEMAS:
        known = " and ".join(map(str, READABLE_SCHEMAS))
        raise MovlError(
            f"The report of {source.name} has schema version {version}; this version of movl_monai reads {known}. "
            "Evaluate again, or use the version that wrote it."
        )
    return dict(report)


def render_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Render a report as a page.

    Args:
        report: report from :func:`~movl_monai.evaluation.build_report`.
        pictures: PNGs by file name. Shown if present: those of :func:`~movl_monai.evaluation.pages.draw_charts`,
            "figure.png", "prompt.png", "attention.png" and those named in ``explanations``.

    Returns:
        HTML with links only within the page. Pictures are shrunk if the page would exceed 5 MB.
    """
    shown = fit_pictures(pictures)
    parts = [
        render_figures(report, shown),
        render_calibration(report, shown),
        render_detection(report, shown),
        render_conformal(report, shown),
        render_abstention(report, shown),
        render_operating_points(report),
        render_groups(report, shown),
        render_comparisons(report),
        render_explanations(report, shown),
        render_classes(report),
        render_model_card(report),
        section("notes", "Notes", [bullets(report["notes"]) if report["notes"] else "<p>There are none.</p>"]),
        _how_made(report),
    ]
    body = [
        '<a class="skip" href="#main">To the results</a>',
        "<header><h1>Evaluation report</h1>",
        render_origin(report),
        f'<p dir="auto">Classes: {escape(", ".join(report["classes"]))}.</p>',
        '<p class="notice">For research only; not a medical device and not for diagnosis.</p></header>',
        '<main id="main">',
        render_cards(report),
        contents(_CONTENTS),
        *parts,
        "</main>",
        "<footer><p>Made by movl_monai. This page loads nothing from anywhere.</p></footer>",
    ]
    return html_page("Evaluation report", body, style=_STYLE)


def _how_made(report: Mapping[str, Any]) -> str:
    sections = figure_sections(report)
    meanings = [
        f"{name}: {meaning}."
        for key, (name, _, meaning) in FIGURES.items()
        if any(key in part for part in sections.values())
    ]
    draws = [
        f"{section_title(name)}: {part['resampling']['rounds']} resamples of {part['resampling']['num_resampled']} "
        f"{part['resampling']['resampled']}, seed {part['resampling']['seed']}, percentile intervals."
        for name, part in sections.items()
    ]
    body = [
        facts_table(report["run"], caption="The run that made this report."),
        f"<h3>Intervals</h3>{bullets(draws)}<h3>What the figures mean</h3>{bullets(meanings)}",
        "<p>Every image with its label, prediction and probabilities is in predictions.csv, by salted id. Here (ID) "
        "means in-distribution: test images from the domain of the training images. Elsewhere (OOD) means "
        "out-of-distribution: images of other domains, which training never saw.</p>",
    ]
    return section("made", "How this was made", body)


def _read_pictures(source: Path, report: Mapping[str, Any], *, drawn: Collection[str]) -> dict[str, bytes]:
    names = [
        *report["files"].values(),
        *(one["file"] for one in (report.get("explanations") or {}).get("pictures") or []),
    ]
    # file names in a report are untrusted: they must not lead out of the folder
    safe = [name for name in map(str, names) if name.endswith(".png") and Path(name).name == name and name not in drawn]
    missing = [name for name in safe if not (source / name).is_file()]
    if missing:
        raise MovlError(
            f"Pictures of the report in {source.name} are missing: {', '.join(missing)}. Put them back beside "
            "report.json, or evaluate again."
        )
    return {name: (source / name).read_bytes() for name in safe}


def _not_a_report(source: Path, error: Exception) -> MovlError:
    return MovlError(
        f"No page can be made from {source.name}: {type(error).__name__}. Expected the folder of an evaluation, "
        "with its report.json and pictures; evaluate again."
    )
