"""Numbers of a report as flat tables, for spreadsheets and scripts, and as scalars for trackers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from movl_monai.metrics.declared import CLASS_FIGURES, TaskFigures

__all__ = [
    "detection_rows",
    "figure_table",
    "group_rows",
    "operating_rows",
    "report_scalars",
    "report_tables",
    "sections_of",
    "track_report",
]

Row = dict[str, Any]
_FACTS = ("n", "n_patients", "n_unlabeled")


def report_tables(report: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of every table by its name; a table without figures has no rows.

    Args:
        report: report of schema version 2.

    Returns:
        ``figures`` (section, class, figure, value, low, high), ``reliability``, ``ood_detection``, ``conformal``,
        ``operating_points`` and ``groups``.
    """
    return {
        "figures": figure_table(report),
        "reliability": _reliability(report),
        "ood_detection": detection_rows(report),
        "conformal": _conformal(report),
        "operating_points": operating_rows(report),
        "groups": group_rows(report, CLASS_FIGURES),
    }


def report_scalars(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the defined figures of a report by path-like names, for TensorBoard and MLflow.

    Example:
        >>> report_scalars({"id": {"accuracy": 0.5, "auroc": None}, "calibration": {"temperature": 2.0}})
        {'id/accuracy': 0.5, 'calibration/temperature': 2.0}
    """
    found: dict[str, Any] = {}
    for name, section in sections_of(report).items():
        found |= {f"{name}/{key}": value for key, value in section.items() if key not in _FACTS}
    calibration = report.get("calibration") or {}
    found["calibration/temperature"] = calibration.get("temperature")
    for name, part in (calibration.get("sections") or {}).items():
        found |= {f"calibration/{name}/{key}_after": value for key, value in (part.get("after") or {}).items()}
    for row in _conformal(report):
        path = f"conformal/{row['method']}/{row['section']}"
        found |= {f"{path}/coverage": row["coverage"], f"{path}/mean_size": row["mean_size"]}
    for row in detection_rows(report):
        found |= {f"ood_detection/{row['domain']}/{row['score']}/{key}": row[key] for key in ("auroc", "aupr", "fpr95")}
    for name, part in ((report.get("abstention") or {}).get("sections") or {}).items():
        found[f"abstention/{name}/aurc"] = part.get("aurc")
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    # MLflow does not allow a colon in a name
    return {name.replace(":", "."): value for name, value in numbers.items()}


def sections_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with figures of a report by name: "id", "ood:<domain>", "val", "calibration"."""
    named = {"id": report.get("id")}
    named |= {f"ood:{domain}": section for domain, section in (report.get("ood") or {}).items()}
    named |= {"val": report.get("val"), "calibration": report.get("calibration_section")}
    return {name: section for name, section in named.items() if section}


def figure_table(report: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the table ``figures``: section, class ("" for all), figure, value, low, high."""
    rows = []
    for name, section in sections_of(report).items():
        for key, value in section.items():
            if isinstance(value, (int, float)) or (value is None and key in section["intervals"]):
                rows.append({"section": name, "class": "", "figure": key, "value": value, **_bounds(section, key)})
        for label, values in (section.get("per_class") or {}).items():
            intervals = {"intervals": (section.get("per_class_intervals") or {}).get(label) or {}}
            rows += [
                {"section": name, "class": label, "figure": key, "value": value, **_bounds(intervals, key)}
                for key, value in values.items()
            ]
    return rows


def _bounds(section: Mapping[str, Any], key: str) -> Row:
    low, high = (section.get("intervals") or {}).get(key) or (None, None)
    return {"low": low, "high": high}


def _reliability(report: Mapping[str, Any]) -> list[Row]:
    return [
        {"section": name, "temperature": when, **dict(row)}
        for name, section in ((report.get("calibration") or {}).get("sections") or {}).items()
        for when in ("before", "after")
        for row in section["reliability"][when] or ()
    ]


def detection_rows(report: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the table ``ood_detection``: a row for each domain and score."""
    entry = report.get("ood_detection") or {}
    chosen = (entry.get("chosen") or {}).get("score")
    rows = []
    for domain, one in (entry.get("sets") or {}).items():
        for score, figures in one["scores"].items():
            low, high = (figures or {}).get("auroc_interval") or (None, None)
            row = {"domain": domain, "kind": one["kind"], "n": one["n"], "score": score}
            row |= {key: (figures or {}).get(key) for key in ("auroc", "aupr", "fpr95")}
            flagged = one["flagged"] if score == chosen else None
            rows.append({**row, "auroc_low": low, "auroc_high": high, "flagged": flagged})
    return rows


def _conformal(report: Mapping[str, Any]) -> list[Row]:
    rows = []
    for method, entry in ((report.get("conformal") or {}).get("methods") or {}).items():
        for name, figures in entry["sections"].items():
            low, high = figures["coverage_interval"] or (None, None)
            row = {"method": method, "section": name, "coverage": figures["coverage"], "low": low, "high": high}
            row |= {"mean_size": figures["mean_size"]}
            row |= {f"sets_of_{size}": count for size, count in figures["sizes"].items()}
            rows.append(
                {**row, **{f"coverage of {key}": value for key, value in figures["per_class_coverage"].items()}}
            )
    return rows


def operating_rows(report: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the table ``operating_points``: a row for each point, section and figure."""
    rows = []
    for point in (report.get("operating_points") or {}).get("points") or ():
        target = {"class": point["class"], **{key: point["target"][key] for key in ("metric", "at_least")}}
        for name, figures in point["sections"].items():
            for key in ("sensitivity", "specificity", "ppv", "npv"):
                row = {**target, "threshold": point["threshold"], "section": name, "figure": key}
                rows.append({**row, "value": figures.get(key), **_bounds(figures, key)})
    return rows


def group_rows(report: Mapping[str, Any], figures: TaskFigures) -> list[Row]:
    """Return the rows of the table ``groups``: a row for each section, group and leading figure."""
    rows = []
    for column, parts in (report.get("groups") or {}).items():
        if column == "notes":
            continue
        for name, values in parts.items():
            if name in ("gaps", "notes"):
                continue
            for value, found in values.items():
                facts = {key: found.get(key) for key in ("n", "n_patients", "small")}
                for key in figures.listed:
                    row = {"group": column, "section": name, "value": value, **facts, "figure": key}
                    rows.append({**row, "figure_value": found.get(key), **_bounds(found, key)})
    return rows


def track_report(
    report: Mapping[str, Any], *, engine: Any = None, tensorboard_dir: str | os.PathLike[str] | None = None
) -> dict[str, float]:
    """Log every figure of a report once.

    Args:
        report: report from :func:`~movl_monai.evaluation.build_report`.
        engine: the evaluator. Its ``state.metrics`` get the figures; MONAI's MLFlowHandler logs these at the end of the
            epoch if it was attached later (as with ``--tracking mlflow``).
        tensorboard_dir: folder of the events; None writes none.

    Returns:
        the figures by name.
    """
    scalars = report_scalars(report)
    if engine is not None:
        engine.state.metrics.update(scalars)
    if tensorboard_dir is not None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(os.fspath(tensorboard_dir)) as writer:
            for name, value in scalars.items():
                writer.add_scalar(f"evaluation/{name}", value, 0)
    return scalars
