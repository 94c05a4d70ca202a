"""`movl-monai report`: rebuild the report of a run, or put several runs on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from movl_monai.cli.output import show
from movl_monai.errors import ConfigError
from movl_monai.metrics.stored.outputs import OUTPUTS_FILE
from movl_monai.report.html import write_html
from movl_monai.report.rebuild import rebuild_report
from movl_monai.report.several_runs import evaluation_folder, write_comparison

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Write the page and print its path."""
    if len(options.runs) > 1:
        if options.against:
            raise ConfigError("--against needs one RUN; several runs are compared with the first of them.")
        _show(options, write_comparison(options.runs, options.output_dir or "comparison"))
        return 0
    if options.output_dir:
        raise ConfigError("--output_dir needs several runs; the report of one run stays with its evaluation.")
    _show(options, _rebuild(Path(options.runs[0]), options.against))
    return 0


def _show(options: argparse.Namespace, page: Path) -> None:
    show(options, str(page), {"report": page})


def _rebuild(path: Path, against: list[str]) -> Path:
    places = (path, path / "evaluation")
    stored = next((place for place in places if (place / OUTPUTS_FILE).is_file()), None)
    if stored is not None:
        rebuild_report(stored, against=against)
        return stored / "report.html"
    if against:
        raise ConfigError(
            f"--against needs the stored outputs of the run, and {path.name!r} has no {OUTPUTS_FILE}: evaluate it "
            "again."
        )
    return write_html(evaluation_folder(path))
