"""`movl-monai inspect`: inspect a config, run, checkpoint, exported file or bundle without running any of it."""

from __future__ import annotations

import argparse

from movl_monai.cli.output import show
from movl_monai.inspection.findings import FileReport, Report
from movl_monai.inspection.folders import inspect_path

__all__ = ["EXIT_FINDINGS", "run", "table"]

EXIT_FINDINGS = 5
"""Exit code for an inspection with findings."""

_NOT_LISTED = ("other", "result")


def run(options: argparse.Namespace) -> int:
    """Inspect a path, print the table or JSON, and return the exit code for findings or none."""
    report = inspect_path(options.path)
    show(options, table(report), report.as_json())
    return EXIT_FINDINGS if report.findings else 0


def table(report: Report) -> str:
    """Return the report as text: a line for each file, its notes and findings below it, and the verdict."""
    listed = [file for file in report.files if file.findings or file.kind not in _NOT_LISTED]
    width = max([len(file.name) for file in listed] + [4])
    lines = [f"{'file':<{width}}  {'kind':<22}  {'sha256':<12}  result"]
    for file in listed:
        lines += _rows(file, width)
    others = len(report.files) - len(listed)
    if others:
        lines.append(f"{others} other files (texts, pictures, tables), nothing in which is run")
    verdict = f"{report.findings} finding{'s' * (report.findings != 1)}" if report.findings else "clean"
    return "\n".join([*lines, f"{report.name} ({report.kind}): {verdict}"])


def _rows(file: FileReport, width: int) -> list[str]:
    result = f"{len(file.findings)} finding{'s' * (len(file.findings) != 1)}" if file.findings else "clean"
    rows = [f"{file.name:<{width}}  {file.kind:<22}  {file.sha256[:12] or '-':<12}  {result}"]
    rows += [f"    note: {note}" for note in file.notes]
    for finding in file.findings:
        place = f" {finding.place}" if finding.place else ""
        rows.append(f"    {finding.kind}:{place}: {finding.text}" if place else f"    {finding.kind}: {finding.text}")
    return rows
