"""The report as one self-contained page: it loads nothing, so it can be mailed and printed."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from movl_monai.errors import MovlError
from movl_monai.files import write_atomically
from movl_monai.report import fit_pictures, render_template
from movl_monai.report.segmentation_task import how_good, how_sure, on_change, when_not_to_trust
from movl_monai.report.sections.charts import draw_charts
from movl_monai.report.sections.figures import MASK_FIGURES, common_values, declared_figures, remarks, score_names
from movl_monai.report.sections.first_screen import METHODS, first_words, risk_at

__all__ = ["READABLE_SCHEMAS", "read_report", "render_html", "render_mask_html", "write_html"]

READABLE_SCHEMAS = (1, 2)


def render_mask_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Render a report as a page.

    Args:
        report: report from :func:`~movl_monai.evaluation.build_mask_report`, with ``files``.
        pictures: PNGs by file name, including those of :func:`~movl_monai.report.sections.draw_charts`.

    Returns:
        HTML with links only within the page. Pictures are shrunk if the page would exceed 5 MB.
    """
    return render_template(
        "segmentation.html",
        segmentation=True,
        pictures=fit_pictures(pictures),
        words=_first_words(report),
        figures=MASK_FIGURES,
        **common_values(report),
    )


def _first_words(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sentences of each card of the first screen."""
    here = report["id"]
    return {
        "here": how_good(here) if here else ["No test cases were evaluated."],
        "elsewhere": {name: [*how_good(part), *on_change(part, here)] for name, part in report["ood"].items()},
        "sure": how_sure(report),
        "outside": when_not_to_trust(report),
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
    except (ValueError, KeyError, TypeError, AttributeError, UndefinedError) as error:
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
        pictures: PNGs by file name. Shown if present: those of :func:`~movl_monai.report.sections.draw_charts`,
            "figure.png", "prompt.png", "attention.png" and those named in ``explanations``.

    Returns:
        HTML with links only within the page. Pictures are shrunk if the page would exceed 5 MB.
    """
    return render_template(
        "classification.html",
        segmentation=False,
        pictures=fit_pictures(pictures),
        words=first_words(report),
        figures=declared_figures(),
        remarks=remarks(report),
        method_names=METHODS,
        risk_at=risk_at,
        scores=score_names(report),
        **common_values(report),
    )


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
