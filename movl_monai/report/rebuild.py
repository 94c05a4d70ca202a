"""Rebuild a report from the stored outputs of an evaluation, without network and images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from movl_monai.errors import MovlError
from movl_monai.metrics.stored.outputs import find_outputs, read_outputs
from movl_monai.report.entries import Report
from movl_monai.report.options import ReportOptions
from movl_monai.report.report import SCHEMA_VERSION, report_of_outputs, write_report
from movl_monai.report.several_runs import compare_with_runs

__all__ = ["rebuild_report"]

_KEPT = ("prompt.png", "attention.png")


def rebuild_report(
    path: str | os.PathLike[str],
    *,
    against: Sequence[str | os.PathLike[str]] = (),
    options: ReportOptions | None = None,
) -> Report:
    """Recompute and rewrite the report of a run from its ``outputs.npz``.

    Pictures that need the network (prompt, attention, explanations) are kept.

    Args:
        path: the folder of a run or of its evaluation.
        against: folders of other runs to compare with; earlier comparisons with other runs are kept.
        options: options of the report; None takes those of the evaluation.

    Returns:
        the report.

    Raises:
        DifferentTestSetsError: if another run was evaluated on other images.
        MovlError: if the stored outputs are missing, or they or the report are damaged or of another schema version;
            the message says to evaluate again.
    """
    source = find_outputs(path)
    outputs = read_outputs(source)
    options = ReportOptions.from_facts(outputs.facts) if options is None else options
    earlier = _earlier(source.parent)
    report = report_of_outputs(outputs, options=options)
    report["explanations"] = earlier.get("explanations") or report["explanations"]
    fresh = compare_with_runs(source.parent, against, options=options)
    known = {str(entry["name"]) for entry in fresh}
    report["comparisons"] = [*fresh, *(one for one in earlier.get("comparisons", ()) if one["name"] not in known)]
    names = [*_KEPT, *(str(one["file"]) for one in report["explanations"]["pictures"])]
    # file names in a report are untrusted: they must not lead out of the folder
    kept = {name: source.parent / name for name in names if Path(name).name == name}
    pictures = {name: file.read_bytes() for name, file in kept.items() if file.is_file()}
    return write_report(source.parent, report, outputs.predictions, kept=pictures)


def _earlier(folder: Path) -> dict[str, Any]:
    """Return the existing report, {} if there is none."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        report = None
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version != SCHEMA_VERSION:
        found = "is damaged" if version is None else f"has schema version {version}"
        raise MovlError(
            f"report.json of {folder.name!r} {found}, this movl_monai writes {SCHEMA_VERSION}. Evaluate the run again, "
            "or move that file away to have the report made from the stored outputs alone."
        )
    return dict(report)
