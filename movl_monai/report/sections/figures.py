"""Figures of a report by section, of patient groups and against other runs, as the variables of its templates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.errors import MovlError
from movl_monai.metrics.declared import Figure, TaskFigures
from movl_monai.report.model_card import model_card
from movl_monai.report.sections.charts import group_columns, group_sections
from movl_monai.report.words import domain_of, is_tested, section_title

__all__ = [
    "common_values",
    "compared_runs",
    "difference_lines",
    "difference_rows",
    "difference_words",
    "evaluation_folder",
    "figure_names",
    "figure_sections",
    "group_tables",
    "score_names",
    "verdict",
]

# kind of baseline: name in a sentence, and overlay that trains it
_BASELINES = {
    "linear_probe": ("the linear probe", "strategy_linear_probe.json"),
    "full_finetune": ("full fine-tuning", "strategy_full_finetune.json"),
}
NO_PICTURES = "Pictures of patients were not asked for; give `--patient_pictures 1` to have them."
# facts of a run that the title or the facts on the weights have
_IN_TITLE = dict.fromkeys(("data", "evaluated", "backbone", "weights_sha256"))
_STAGES: dict[tuple[str, ...], str] = {("linear probe",): "linear_probe", ("fine-tuning",): "full_finetune"}


def compared_runs(report: Mapping[str, Any], figures: TaskFigures) -> dict[str, Any]:
    """Return the comparisons with the linear probe, full fine-tuning and other runs in words.

    Returns:
        ``own``, the name of the baseline that this run itself is, or None; ``runs`` with name, lines and notes;
        ``missing``, the overlays by name of the baselines that it was not compared with.
    """
    entries = report.get("comparisons") or []
    known = {_kind(entry): entry for entry in reversed(entries)}
    own = _kind({"strategy": (report.get("run") or {}).get("strategy"), "name": ""})
    runs = [_in_words(name, known[kind], figures) for kind, (name, _) in _BASELINES.items() if kind in known]
    runs += [_in_words(str(entry["name"]), entry, figures) for entry in entries if _kind(entry) not in _BASELINES]
    return {
        "own": _BASELINES[own][0] if own in _BASELINES else None,
        "runs": runs,
        "missing": {name: overlay for kind, (name, overlay) in _BASELINES.items() if kind not in known and kind != own},
    }


def _in_words(name: str, entry: Mapping[str, Any], figures: TaskFigures) -> dict[str, Any]:
    tested = {key: metrics for key, metrics in (entry.get("sections") or {}).items() if is_tested(key)}
    return {
        "name": name,
        "lines": difference_lines(tested, figures),
        "notes": [str(note) for note in entry.get("notes") or ["report.json gives no reason."]],
    }


def difference_lines(sections: Mapping[str, Mapping[str, Any] | None], figures: TaskFigures) -> list[str]:
    """Return the first figure with a difference of every section in words."""
    return [
        f"{'internal test' if key == 'id' else domain_of(key)}: {difference_words(metrics or {}, figures)}"
        for key, metrics in sections.items()
    ]


def difference_words(metrics: Mapping[str, Any], figures: TaskFigures) -> str:
    """Describe the first leading figure with a difference in words, and whether its interval excludes 0.

    Example:
        >>> from movl_monai.metrics.declared import CLASS_FIGURES
        >>> difference_words({"accuracy": {"difference": 0.02, "interval": [0.01, 0.03]}}, CLASS_FIGURES)
        'better, +2.0 points share of right images (+1.0 to +3.0)'
    """
    name = _first_difference(metrics, figures)
    if name is None:
        return "no difference can be given"
    return _words(metrics[name]["difference"], metrics[name].get("interval"), figures.declared[name])


def difference_rows(entry: Mapping[str, Any], figures: TaskFigures) -> list[dict[str, Any]]:
    """Return the paired differences of a comparison, one row per section and figure.

    Returns:
        ``section``, ``figure`` (in words), ``b`` (of the other run), ``difference``, ``interval``, and ``above``: True
        if :func:`difference_lines` says it.
    """
    rows = []
    for key, metrics in (entry.get("sections") or {}).items():
        first = _first_difference(metrics or {}, figures) if is_tested(key) else None
        for name, found in (metrics or {}).items():
            if isinstance(found, Mapping):
                phrase = figures.declared[name].phrase if name in figures.declared else name.replace("_", " ")
                numbers = {part: found.get(part) for part in ("b", "difference", "interval")}
                rows.append({"section": section_title(key), "figure": phrase, **numbers, "above": name == first})
    return rows


def _first_difference(metrics: Mapping[str, Any], figures: TaskFigures) -> str | None:
    for name in figures.leading:
        found = metrics.get(name)
        if isinstance(found, Mapping) and found.get("difference") is not None:
            return name
    return None


def verdict(metrics: Mapping[str, Any], figures: TaskFigures) -> str:
    """Return "better", "worse" or "no clear difference" for the leading figure, "" without a difference."""
    name = _first_difference(metrics, figures)
    return "" if name is None else _verdict(metrics[name].get("interval"), figures.declared[name])


def _verdict(interval: Sequence[float] | None, figure: Figure) -> str:
    low, high = interval if interval is not None and None not in interval else (-1.0, 1.0)
    verdicts = ("better", "worse") if figure.better == "↑" else ("worse", "better")
    return verdicts[0] if low > 0 else verdicts[1] if high < 0 else "no clear difference"


def _words(difference: float, interval: Sequence[float] | None, figure: Figure) -> str:
    scale, unit, digits = (100, " points", 1) if figure.percent else (1, "", 3)
    known = interval is not None and None not in interval
    bounds = f" ({scale * interval[0]:+.{digits}f} to {scale * interval[1]:+.{digits}f})" if interval and known else ""
    return f"{_verdict(interval, figure)}, {scale * difference:+.{digits}f}{unit} {figure.phrase}{bounds}"


def _kind(entry: Mapping[str, Any]) -> str:
    """Return the kind of baseline of a run by its stages, else by its name."""
    strategy = entry.get("strategy")
    if isinstance(strategy, (list, tuple)):
        stages = tuple(str(stage.get("name") if isinstance(stage, Mapping) else stage) for stage in strategy)
        return _STAGES.get(stages, str(entry["name"]))
    texts = {str(text or "").lower().replace("-", "_").replace(" ", "_") for text in (strategy, entry["name"])}
    return next((kind for kind in _BASELINES if kind in texts), _STAGES.get((str(strategy),), str(entry["name"])))


def group_tables(report: Mapping[str, Any], figures: TaskFigures) -> list[dict[str, Any]]:
    """Return the figures of every group, the largest gaps, and the reasons for missing gaps, for every group column."""
    return [_table(name, report["groups"][name], figures) for name in group_columns(report)]


def _table(name: str, column: Mapping[str, Any], figures: TaskFigures) -> dict[str, Any]:
    sections, gaps = group_sections(column), column.get("gaps") or {}
    known = {key: found for key, found in gaps.items() if found and found.get("largest") is not None}
    return {
        "name": name,
        "sections": sections,
        "main": figures.declared[figures.main].title,
        "figures": {
            name: figure.title
            for name, figure in figures.declared.items()
            if any(name in group for part in sections.values() for group in part.values())
        },
        "gaps": {key: {**found, "between": _between(found)} for key, found in known.items()},
        "missing": [
            f"{section_title(key)}: {' '.join((found or {}).get('notes') or ['no gap can be given.'])}"
            for key, found in gaps.items()
            if key not in known
        ],
        "notes": column.get("notes") or (),
    }


def _between(gap: Mapping[str, Any]) -> str:
    names = " and ".join(str(value) or "not stated" for value in gap.get("between") or [])
    return f"{names} (small)" if gap.get("small") else names


def figure_sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with figures of a report by key ("id", "ood:<domain>", "val", "calibration")."""
    parts = {"id": report.get("id"), **{f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}}
    parts |= {"val": report.get("val"), "calibration": report.get("calibration_section")}
    return {name: part for name, part in parts.items() if part}


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


def common_values(report: Mapping[str, Any], figures: TaskFigures) -> dict[str, Any]:
    """Return the variables that the templates of all tasks share."""
    made = report.get("model_card") or model_card(report)
    return {
        "further": {
            key: value
            for key, value in (report.get("run") or {}).items()
            if value is not None and key not in {**made["model"], **made["run"], **_IN_TITLE}
        },
        "loose_notes": _loose_notes(report),
        "no_pictures": NO_PICTURES,
        "report": report,
        "made": made,
        "sections": figure_sections(report),
        "groups": group_tables(report, figures),
        "compared": compared_runs(report, figures),
        "comparisons": [
            {**entry, "rows": difference_rows(entry, figures)} for entry in report.get("comparisons") or ()
        ],
        "figures": figures.titles(len(report["classes"])),
        "metric_names": {name: figures.declared[name].phrase for name in figures.leading},
    }


def _loose_notes(report: Mapping[str, Any]) -> list[str]:
    """Return the notes of a report that are of no entry, as the section of an entry has its own."""
    own = tuple(f"{key}:" for key, entry in report.items() if key not in ("id", "ood", "val") and entry is not None)
    return [str(note) for note in report.get("notes") or () if not str(note).startswith(own)]


def figure_names(report: Mapping[str, Any], figures: TaskFigures, *, shown: Sequence[str]) -> list[str]:
    """Return the figures of a classification that neither the first screen nor the section on calibration has.

    Args:
        report: its report.
        figures: figures of its task.
        shown: figures of the first screen.
    """
    calibrated = ("cross_entropy", "brier", "ece") if (report.get("calibration") or {}).get("sections") else ()
    return [name for name in figures.titles(len(report["classes"])) if name not in (*shown, *calibrated)]


def score_names(report: Mapping[str, Any]) -> list[str]:
    """Return the OOD scores that have a value on any set; the notes give the reason for the others."""
    sets = (report.get("ood_detection") or {}).get("sets") or {}
    found = [pair for part in sets.values() for pair in (part.get("scores") or {}).items()]
    return list(dict.fromkeys(name for name, value in found if value))
