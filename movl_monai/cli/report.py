"""`movl-monai report`: rebuild the report of a run, put several runs on one page, or fill a checklist."""

from __future__ import annotations

import argparse
from pathlib import Path

from movl_monai.cli.output import show
from movl_monai.errors import ConfigError
from movl_monai.metrics.stored.outputs import OUTPUTS_FILE
from movl_monai.report.checklists import write_checklist
from movl_monai.report.facts import sections_of
from movl_monai.report.html import read_report, write_html
from movl_monai.report.rebuild import rebuild_report
from movl_monai.report.several_runs import evaluation_folder, write_comparison

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Write the page or the checklist, and print its path."""
    if options.checklist:
        _fill(options)
        return 0
    if len(options.runs) > 1:
        if options.against:
            raise ConfigError("--against needs one RUN; several runs are compared with the first of them.")
        _show(options, write_comparison(options.runs, options.output_dir or "comparison"))
        return 0
    if options.output_dir:
        raise ConfigError("--output_dir needs several runs; the report of one run stays with its evaluation.")
    _show(options, _rebuild(Path(options.runs[0]), options.against))
    return 0


def _fill(options: argparse.Namespace) -> None:
    if len(options.runs) > 1 or options.against or options.output_dir:
        raise ConfigError("--checklist needs one RUN, and neither --against nor --output_dir.")
    folder = evaluation_folder(options.runs[0])
    report = read_report(folder)
    path, filled = write_checklist(report, options.checklist, folder)
    counts = {by: sum(one.by == by for one in filled) for by in ("run", "run, author", "author")}
    text = (
        f"{path}\n{len(filled)} items: {counts['run']} filled from the run, {counts['run, author']} in part, "
        f"{counts['author']} left to the author."
    )
    if not sections_of(report):
        text += "\nThe run has no figures: no test images were evaluated. `movl-monai evaluate RUN --dataset_dir DATA`."
    show(options, text, {"checklist": path, "items": len(filled), "filled_by": counts})


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
