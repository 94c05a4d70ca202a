"""The report of a segmentation as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.report import fit_pictures, render_template
from movl_monai.report.mask_summary import how_good, how_sure, on_change, when_not_to_trust
from movl_monai.report.sections.figures import MASK_FIGURES, common_values

__all__ = ["render_mask_html"]


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
