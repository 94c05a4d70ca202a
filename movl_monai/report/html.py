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
from movl_monai.report.sections.charts import draw_charts
from movl_monai.report.sections.figures import common_values
from movl_monai.report.sections.title import page_title, run_name
from movl_monai.report.tasks import task_of
from movl_monai.report.words import counting_units

__all__ = ["READABLE_SCHEMAS", "read_report", "render_html", "write_html"]

READABLE_SCHEMAS = (1, 2)


def write_html(folder: str | os.PathLike[str]) -> Path:
    """Write report.html from the report.json and the pictures of a folder; charts are redrawn.

    Raises:
        MovlError: if report.json is missing or invalid, or the page cannot be written.
    """
    source = Path(folder)
    report = read_report(source)
    try:
        charts = draw_charts(report, task_of(report).figures)
        pictures = charts | _read_pictures(source, report, drawn=charts)
        page = render_html(report, pictures, name=run_name(source))
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


def render_html(report: Mapping[str, Any], pictures: Mapping[str, bytes], *, name: str = "") -> str:
    """Render a report as a page: a first screen, and sections that open on a click and in print.

    Args:
        report: report of any task, with ``files``.
        pictures: PNGs by file name. Shown if present: those of :func:`~movl_monai.report.sections.charts.draw_charts`,
            "figure.png", "prompt.png", "attention.png", those of cases, and those named in ``explanations``.
        name: name of the run, for the title.

    Returns:
        HTML with links only within the page. Pictures are shrunk if the page would exceed 3 MB.
    """
    task = task_of(report)
    page = render_template(
        f"{task.page}.html",
        own=f"{task.page}_words.html",
        kind=task.kind,
        title=page_title(report, name, per_pixel=task.per_pixel),
        pictures=fit_pictures(pictures),
        words=task.words(report),
        **task.page_values(report),
        **common_values(report, task.figures),
    )
    unit = (report.get("run") or {}).get("unit")
    return page if unit is None else counting_units(page, str(unit))


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
