"""Figures of a report by section, of patient groups and against other runs, as the variables of its templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from movl_monai.metrics.declared import DECLARED
from movl_monai.report.model_card import model_card
from movl_monai.report.sections.charts import group_columns, group_sections, main_figure
from movl_monai.report.words import domain_of, is_tested, section_title

__all__ = [
    "MASK_FIGURES",
    "METRICS",
    "common_values",
    "compared_runs",
    "declared_figures",
    "difference_lines",
    "difference_words",
    "figure_sections",
    "group_tables",
    "remarks",
    "score_names",
]

# kind of baseline: name in a sentence, and overlay that trains it
_BASELINES = {
    "linear_probe": ("the linear probe", "strategy_linear_probe.json"),
    "full_finetune": ("full fine-tuning", "strategy_full_finetune.json"),
}
_STAGES: dict[tuple[str, ...], str] = {("linear probe",): "linear_probe", ("fine-tuning",): "full_finetune"}
METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "share of right images",
    "auroc": "AUROC",
    "dice": "mean Dice",
}
_POINTS = ("balanced_accuracy", "accuracy", "sensitivity", "specificity")
_FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
}
# name, arrow (up: larger is better), meaning
MASK_FIGURES: dict[str, tuple[str, str, str]] = {
    "dice": ("Dice", "↑", "twice the common area over the sum of both areas, 0 to 1"),
    "iou": ("IoU", "↑", "common area over the united area, 0 to 1"),
    "sensitivity": ("Sensitivity", "↑", "share of the true area that was found"),
    "precision": ("Precision", "↑", "share of the predicted area that is true"),
    "hd95": ("HD95", "↓", "95th percentile of the distances between the two outlines, the larger of both directions"),
    "asd": ("Average surface distance", "↓", "mean distance from either outline to the other"),
}


def compared_runs(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the comparisons with the linear probe, full fine-tuning and other runs in words.

    Returns:
        ``own``, the name of the baseline that this run itself is, or None; ``runs`` with name, lines and notes;
        ``missing``, the overlays by name of the baselines that it was not compared with.
    """
    entries = report.get("comparisons") or []
    known = {_kind(entry): entry for entry in reversed(entries)}
    own = _kind({"strategy": (report.get("run") or {}).get("strategy"), "name": ""})
    runs = [_in_words(name, known[kind]) for kind, (name, _) in _BASELINES.items() if kind in known]
    runs += [_in_words(str(entry["name"]), entry) for entry in entries if _kind(entry) not in _BASELINES]
    return {
        "own": _BASELINES[own][0] if own in _BASELINES else None,
        "runs": runs,
        "missing": {name: overlay for kind, (name, overlay) in _BASELINES.items() if kind not in known and kind != own},
    }


def _in_words(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    tested = {key: metrics for key, metrics in (entry.get("sections") or {}).items() if is_tested(key)}
    return {
        "name": name,
        "lines": difference_lines(tested),
        "notes": [str(note) for note in entry.get("notes") or ["report.json gives no reason."]],
    }


def difference_lines(sections: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Return the first figure with a difference of every section in words."""
    return [
        f"{'internal test' if key == 'id' else domain_of(key)}: {difference_words(metrics or {})}"
        for key, metrics in sections.items()
    ]


def difference_words(metrics: Mapping[str, Any]) -> str:
    """Describe the first figure with a difference in words, and whether its interval excludes 0.

    Example:
        >>> difference_words({"accuracy": {"difference": 0.02, "interval": [0.01, 0.03]}})
        'better, +2.0 points share of right images (+1.0 to +3.0)'
    """
    for metric, name in METRICS.items():
        found = metrics.get(metric)
        if isinstance(found, Mapping) and found.get("difference") is not None:
            return _words(found["difference"], found.get("interval"), metric, name)
    return "no difference can be given"


def _words(difference: float, interval: Sequence[float] | None, metric: str, name: str) -> str:
    scale, unit, digits = (100, " points", 1) if metric in _POINTS else (1, "", 3)
    low, high = interval if interval is not None and None not in interval else (-1.0, 1.0)
    bounds = f" ({scale * low:+.{digits}f} to {scale * high:+.{digits}f})" if interval is not None else ""
    verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{verdict}, {scale * difference:+.{digits}f}{unit} {name}{bounds}"


def _kind(entry: Mapping[str, Any]) -> str:
    """Return the kind of baseline of a run by its stages, else by its name."""
    strategy = entry.get("strategy")
    if isinstance(strategy, (list, tuple)):
        stages = tuple(str(stage.get("name") if isinstance(stage, Mapping) else stage) for stage in strategy)
        return _STAGES.get(stages, str(entry["name"]))
    texts = {str(text or "").lower().replace("-", "_").replace(" ", "_") for text in (strategy, entry["name"])}
    return next((kind for kind in _BASELINES if kind in texts), _STAGES.get((str(strategy),), str(entry["name"])))


def group_tables(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of every group, the largest gaps, and the reasons for missing gaps, for every group column."""
    return [_table(name, report["groups"][name]) for name in group_columns(report)]


def _table(name: str, column: Mapping[str, Any]) -> dict[str, Any]:
    sections, gaps = group_sections(column), column.get("gaps") or {}
    known = {key: found for key, found in gaps.items() if found and found.get("largest") is not None}
    return {
        "name": name,
        "sections": sections,
        "main": _FIGURES[main_figure(sections)],
        "figures": {
            figure: title
            for figure, title in _FIGURES.items()
            if any(figure in group for part in sections.values() for group in part.values())
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


def declared_figures() -> dict[str, tuple[str, str, str]]:
    """Return title, better direction and definition of every figure of a classification."""
    return {name: (figure.title, figure.better, figure.definition) for name, figure in DECLARED.items()}


def figure_sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with figures of a report by key ("id", "ood:<domain>", "val", "calibration")."""
    parts = {"id": report.get("id"), **{f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}}
    parts |= {"val": report.get("val"), "calibration": report.get("calibration_section")}
    return {name: part for name, part in parts.items() if part}


def common_values(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that the templates of classification and segmentation share."""
    return {
        "report": report,
        "made": report.get("model_card") or model_card(report),
        "sections": figure_sections(report),
        "groups": group_tables(report),
        "compared": compared_runs(report),
        "metric_names": METRICS,
    }


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Return the notes on the figures of every section."""
    parts = figure_sections(report).items()
    return [f"{section_title(key)}: {note}" for key, part in parts for note in part.get("notes") or ()]


def score_names(report: Mapping[str, Any]) -> list[str]:
    """Return the OOD scores that have a value on any set; the notes give the reason for the others."""
    sets = (report.get("ood_detection") or {}).get("sets") or {}
    found = [pair for part in sets.values() for pair in (part.get("scores") or {}).items()]
    return list(dict.fromkeys(name for name, value in found if value))
