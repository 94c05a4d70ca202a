"""Several runs side by side: their reports, and the paired differences on the same test images."""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np

from movl_monai.data import IdMap
from movl_monai.data.kept_splits import LEARNED
from movl_monai.errors import LeakageError, MovlError
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.metrics.entries import Comparison, Difference
from movl_monai.metrics.intervals import bootstrap_means
from movl_monai.metrics.masks import FIGURES as MASK_FIGURES
from movl_monai.metrics.matching import ImageNames, match_images, refuse_learned
from movl_monai.metrics.paired import compare_runs
from movl_monai.metrics.stored.outputs import find_outputs, read_outputs
from movl_monai.report.html import read_report, write_html
from movl_monai.report.options import ReportOptions
from movl_monai.report.sections.figures import figure_sections
from movl_monai.report.sections.runs import draw_runs, render_runs

__all__ = [
    "BASELINES",
    "add_mask_comparisons",
    "compare_reports",
    "compare_with_runs",
    "evaluation_folder",
    "refuse_learned_cases",
    "with_ids_of",
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


_Row = TypeVar("_Row")


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
    picture = draw_runs(compared)
    if picture is not None:
        write_atomically(target / "runs.png", picture)
    write_atomically(target / "comparison.json", to_json(compared).encode())
    write_atomically(target / "comparison.html", render_runs(compared, picture).encode())
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
    tasks = {str(report.get("task", "classification")) for report in reports.values()}
    if len(tasks) > 1:
        raise MovlError("The runs are of different tasks, classification and segmentation; compare those of one task.")
    first, *others = reports
    task = tasks.pop()
    differ = _mask_differences if task == "segmentation" else _differences
    differences: dict[str, Comparison] = {}
    for name, folder in zip(others, folders[1:], strict=True):
        try:
            differences[name] = differ(folder, folders[0], name=first, **resampling)
        except LeakageError:
            raise
        except MovlError as error:
            # the page marks the gap, and the other columns are still useful
            differences[name] = {"name": first, "sections": {}, "notes": [str(error)]}
    compared: ComparedReports = {
        "schema_version": _SCHEMA_VERSION,
        "task": task,
        "names": list(reports),
        "reports": reports,
        "differences": differences,
    }
    plain: ComparedReports = jsonable(compared)
    return plain


def evaluation_folder(run: str | os.PathLike[str]) -> Path:
    """Return the folder with the report.json of a run: the folder itself, or its ``evaluation``.

    Raises:
        MovlError: if there is none.
    """
    given = Path(run)
    for folder in (given, given / "evaluation"):
        if (folder / "report.json").is_file():
            return folder.resolve()
    raise MovlError(
        f"There is no report in {given.name!r}: expected report.json there or in its folder evaluation. "
        "Evaluate the run first: `movl-monai evaluate RUN --dataset_dir DIR`."
    )


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


def _differences(run: Path, first: Path, *, name: str, **resampling: Any) -> Comparison:
    return compare_runs(run, first, name=name, **resampling)


def _mask_differences(run: Path, first: Path, *, name: str, **resampling: Any) -> Comparison:
    """Compute differences of the means over cases, with common resamples of patients."""
    one = _cases(run)
    two = with_ids_of(one, _cases(first), runs=(run, first))
    refuse_learned_cases(one, runs=(run, first))
    sections: dict[str, dict[str, Difference]] = {}
    notes = []
    report = read_report(run)
    for key in (key for key in figure_sections(report) if key == "id" or key.startswith("ood:")):
        domain = report["id_domain"] if key == "id" else key.partition(":")[2]
        names = [case for case, row in one.items() if row["domain"] == domain and row["split"] not in ("train", "val")]
        values = {
            figure: np.array([_number(one[case][figure]) - _number(two[case][figure]) for case in names])
            for figure in MASK_FIGURES
        }
        found = bootstrap_means(values, patients=[one[case]["patient"] or None for case in names], **resampling)
        notes += [f"{key}: {note}" for note in found["notes"]]
        means = {figure: [_mean(cases[case][figure] for case in names) for cases in (one, two)] for figure in values}
        sections[key] = {
            figure: {
                "a": means[figure][0],
                "b": means[figure][1],
                # over the cases in which both have a value
                "difference": None if np.isnan(column).all() else float(np.nanmean(column)),
                "interval": found["intervals"][figure],
            }
            for figure, column in values.items()
        }
    return {"name": name, "strategy": None, "sections": sections, "notes": notes}


def _cases(folder: Path) -> dict[str, Mapping[str, str]]:
    try:
        with (folder / "cases.csv").open(encoding="utf-8", newline="") as stream:
            rows: dict[str, Mapping[str, str]] = {row["case"]: row for row in csv.DictReader(stream)}
        if any(not {"domain", "split", "patient", *MASK_FIGURES} <= set(row) for row in rows.values()):
            raise KeyError("columns")
    except (OSError, KeyError) as error:
        raise MovlError(
            f"The cases of {folder.name!r} cannot be read: {type(error).__name__}. Expected cases.csv beside "
            "report.json; evaluate again."
        ) from error
    return rows


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _mean(texts: Any) -> float | None:
    values = np.array([_number(text) for text in texts])
    return None if np.isnan(values).all() else float(np.nanmean(values))


def add_mask_comparisons(evaluation: str | os.PathLike[str], against: Sequence[str | os.PathLike[str]]) -> None:
    """Add paired differences to other runs to the report of a segmentation, and rewrite its page.

    Args:
        evaluation: the folder with report.json.
        against: other runs, evaluated on the same cases.

    Raises:
        MovlError: if a run has no report, is of another task, or was evaluated on other cases. The report is then left
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


def with_ids_of(one: Mapping[str, Any], two: Mapping[str, _Row], *, runs: tuple[Path, Path]) -> dict[str, _Row]:
    """Return the rows of one evaluation under the ids of another, also if the salts differ.

    Args:
        one: rows by salted id; only the ids are used.
        two: rows of the same cases by other ids.
        runs: folders of both evaluations; `local/id_map.json` beside each gives the names behind its ids.

    Raises:
        DifferentTestSetsError: if one evaluation has cases that the other lacks.
        MovlError: if the salts differ and an id map is missing.
    """
    names = [_image_names(run) for run in runs]
    ids = list(two)
    rows = match_images(list(one), ids, names_a=names[0], names_b=names[1])
    return {name: two[ids[row]] for name, row in zip(one, rows, strict=True)}


def refuse_learned_cases(cases: Mapping[str, Mapping[str, str]], *, runs: tuple[Path, Path]) -> None:
    """Refuse test cases that one of two runs learned from.

    Raises:
        LeakageError: if a run learned from one of them.
    """
    test = [name for name, row in cases.items() if row["split"] not in LEARNED]
    refuse_learned(runs, test, _image_names(runs[0]), domain="test")


def _image_names(evaluation: Path) -> Any:
    file = evaluation.resolve().parent / "local" / "id_map.json"
    if not file.is_file():
        return None
    ids = IdMap(file)
    keys = ids.keys()
    return ImageNames(keys, paths={name: ids.path_of(name) for name in keys})


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
    entry = compare_runs(own, other, name=_name(other), **options.resampling)
    return {**entry, "strategy": (read_outputs(other).facts.get("run") or {}).get("strategy")}
