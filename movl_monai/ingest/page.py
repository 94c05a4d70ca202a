"""Quality report as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from movl_monai.ingest.quality import has_leaks, lost_files
from movl_monai.ingest.statuses import STATUSES
from movl_monai.ingest.thumbnails import Thumbnail
from movl_monai.report import render_template

__all__ = ["render_page"]


def render_page(quality: Mapping[str, Any], thumbnails: Sequence[Thumbnail], *, withheld: int) -> str:
    """Render the report.

    Args:
        quality: from :func:`movl_monai.ingest.quality.describe_quality`.
        thumbnails: pictures.
        withheld: number of images that are not shown, because they may show a name.

    Returns:
        HTML without external resources.
    """
    findings = quality["findings"]
    return render_template(
        "folder.html",
        quality=quality,
        thumbnails=thumbnails,
        withheld=withheld,
        lost=lost_files(quality["statuses"]),
        has_leaks=has_leaks(dict(quality)),
        leakage=[
            f"{finding['groups']} groups: {finding['code']}" for finding in findings if finding["level"] == "leak"
        ],
        looks=sum(finding["level"] == "warning" for finding in findings),
        meanings=STATUSES,
        transfer_syntax=_transfer_syntax,
    )


def _transfer_syntax(value: Any) -> str:
    from pydicom.uid import UID

    return UID(str(value)).name
