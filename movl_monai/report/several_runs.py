"""Several runs side by side: their reports, and the paired differences on the same test images."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from movl_monai.errors import LeakageError, MovlError
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.metrics.entries import Comparison
from movl_monai.metrics.stored.outputs import find_outputs, read_outputs
from movl_monai.report.html import read_report, write_html
from movl_monai.report.options import ReportOptions
from movl_monai.report.sections.figures import evaluation_folder
from movl_monai.report.sections.runs import draw_runs, render_runs
from movl_monai.report.tasks import task_named, task_of

__all__ = [
    "BASELINES",
    "add_comparisons",
    "compare_reports",
    "compare_with_runs",
    "write_comparison",
]

_SCHEMA_VERSION = 1
_LOGGER = logging.getLogger(__name__)
BASELINES = ("linear_probe", "full_finetune")


class ComparedReports(TypedDict):
    """Contents of comparison.json; ``differences`` are to the first run, by the name of the other."""

    schema_version: int
    task: str
    names: list[str]
    reports: dict[str, dict[str, Any]]  # as read_report returns them
    differences: dict[str, Comparison]


def write_comparison(runs: Sequence[str | os.PathLike[str]], output_dir: str | os.PathLike[str]) -> Path:
    """Write comparison.html, comparison.json and runs.png of several runs.

    Args:
        runs: two or more folders of runs, or of their evaluations; differences are to the first.
        output_dir: folder of the files, created if missing.

    Returns:
        path of the page.

    Raises:
        MovlError: if a run has no report, or one of another task or schema, or the files cannot be written.
    """
    compared = compare_reports(runs)
    target = Path(output_dir)
    figures = task_of(compared).figures
    picture = draw_runs(compared, figures)
    if picture is not None:
        write_atomically(target / "runs.png", picture)
    write_atomically(target / "comparison.json", to_json(compared).encode())
    write_atomically(target / "comparison.html", render_runs(compared, figures, picture).encode())
    return target / "comparison.html"


def compare_reports(runs: Sequence[str | os.PathLike[str]], **resampling: Any) -> ComparedReports:
    """Combine the reports of several runs.

    Args:
        runs: two or more folders of runs, or of their evaluations.
        resampling: ``rounds``, ``level`` and ``seed`` of the paired intervals.

    Returns:
        JSON-able: ``schema_version``, ``task``, ``names``, ``reports`` (results of :func:`read_report` by
        name), ``differences``: for each run but the first the entries of
        :func:`movl_monai.metrics.paired.compare_outputs`, with a as that run and b as the first; if the two cannot be
        compared, ``sections`` is empty and ``notes`` gives the reason.

    Raises:
        MovlError: if a run has no report, or the runs are of different tasks.
    """
    folders = [evaluation_folder(run) for run in runs]
    if len(set(folders)) < max(2, len(folders)):
        raise MovlError(f"Comparing needs two or more different runs, got {len(set(folders))} in {len(folders)} names.")
    reports = dict(zip(_names(folders), map(read_report, folders), strict=True))
    tasks = {task_of(report).name: task_of(report) for report in reports.values()}
    if len(tasks) > 1:
        raise MovlError(f"The runs are of different tasks, {' and '.join(sorted(tasks))}; compare those of one task.")
    first, *others = reports
    (task,) = tasks.values()
    differences: dict[str, Comparison] = {}
    for name, folder in zip(others, folders[1:], strict=True):
        try:
            differences[name] = task.compare(folder, folders[0], report=reports[name], name=first, **resampling)
        except LeakageError:
            raise
        except MovlError as error:
            # the page marks the gap, and the other columns are still useful
            differences[name] = {"name": first, "sections": {}, "notes": [str(error)]}
    compared: ComparedReports = {
        "schema_version": _SCHEMA_VERSION,
        "task": task.name,
        "names": list(reports),
        "reports": reports,
        "differences": differences,
    }
    plain: ComparedReports = jsonable(compared)
    return plain


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the folder name of each run, preceded by parent folders as far as needed for unique names."""
    runs = [folder.parent if folder.name == "evaluation" else folder for folder in folders]
    depth = 1
    while depth < max(len(run.parts) for run in runs):
        names = ["/".join(run.parts[-depth:]) for run in runs]
        if max(Counter(names).values()) == 1:
            return names
        depth += 1
    return [run.as_posix() for run in runs]


def add_comparisons(evaluation: str | os.PathLike[str], against: Sequence[str | os.PathLike[str]]) -> None:
    """Add paired differences to other runs to a report, and rewrite its page.

    Args:
        evaluation: the folder with report.json.
        against: other runs, evaluated on the same images or cases.

    Raises:
        MovlError: if a run has no report, is of another task, or was evaluated on other ones. The report is then left
            unchanged.
    """
    folder, entries = Path(evaluation), []
    for other in against:
        (entry,) = compare_reports([other, folder])["differences"].values()
        if not entry["sections"]:
            raise MovlError(" ".join(entry["notes"]))
        entries.append(entry)
    report = {**read_report(folder), "comparisons": entries}
    write_atomically(folder / "report.json", to_json(report).encode())
    write_html(folder)


def compare_with_runs(
    evaluation: str | os.PathLike[str], against: Sequence[str | os.PathLike[str]] = (), *, options: ReportOptions
) -> list[Comparison]:
    """Compare a run in pairs with others on the same test images.

    Folders beside the run's folder called ``linear_probe`` or ``full_finetune`` are baselines by default. A baseline
    that cannot be compared, because it was evaluated on other images, is left out and logged.

    Args:
        evaluation: folder of the run's evaluation, with its stored outputs.
        against: folders of other runs, or of their evaluations.
        options: options of the resampling.

    Returns:
        for each other run the entries of :func:`movl_monai.metrics.paired.compare_outputs`; ``strategy`` is the list of
        its stages, if known.

    Raises:
        MovlError: if a named run has no stored outputs.
        DifferentTestSetsError: if a named run was evaluated on other images.
    """
    own = find_outputs(evaluation).resolve()
    named = [
        find_outputs(path).resolve() for path in ([against] if isinstance(against, (str, os.PathLike)) else against)
    ]
    entries = [_compare(own, other, options) for other in dict.fromkeys(named) if other != own]
    for other in _baselines(own):
        if other in named:
            continue
        try:
            entries.append(_compare(own, other, options))
        except MovlError as error:
            _LOGGER.info("Not compared with %s beside this run: %s", _name(other), error)
    return entries


def _baselines(own: Path) -> list[Path]:
    places = [own.parent.parent.parent / name / "evaluation" / own.name for name in BASELINES]
    return [place for place in places if place.is_file() and place != own]


def _name(outputs: Path) -> str:
    """Return the name of the run's folder."""
    return (outputs.parent.parent if outputs.parent.name == "evaluation" else outputs.parent).name


def _compare(own: Path, other: Path, options: ReportOptions) -> Comparison:
    outputs = read_outputs(other)
    task = task_named(outputs.task)
    entry = task.compare(own, other, report={}, name=_name(other), **options.resampling)
    return {**entry, "strategy": (outputs.facts.get("run") or {}).get("strategy")}
