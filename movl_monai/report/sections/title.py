"""Title of a report: run, method, data and date, so that open pages can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["page_title", "run_name"]

_MOST_CLASSES = 4


def run_name(folder: Path) -> str:
    """Return the name of the run that a folder of an evaluation belongs to.

    Example:
        >>> run_name(Path("results/probe/evaluation")), run_name(Path("results/again"))
        ('probe', 'again')
    """
    place = folder.absolute()
    return place.parent.name if place.name == "evaluation" else place.name


def page_title(report: Mapping[str, Any], name: str = "", *, per_pixel: bool = False) -> dict[str, str]:
    """Return the parts of a report's title; a part that the report does not know is "".

    Args:
        report: report of any task.
        name: name of the run.
        per_pixel: True if the first class is the background.

    Returns:
        ``name``; ``method``: stages of the training, prompt, adapter and backbone; ``data``: the stated name of the
        data set, or else its classes, as names of folders may identify people; ``date`` of the evaluation.

    Example:
        >>> run = {"strategy": [{"name": "linear probe"}], "backbone": {"name": "resnet50"}, "evaluated": "2026-11-30"}
        >>> page_title({"run": run, "classes": ["normal", "pneumonia"]}, "first")
        {'name': 'first', 'method': 'linear probe on resnet50', 'data': 'normal or pneumonia', 'date': '2026-11-30'}
    """
    run = report.get("run") or {}
    return {
        "name": name,
        "method": _method(run),
        "data": str(run.get("data") or _classes((report.get("classes") or ())[per_pixel:])),
        "date": str(run.get("evaluated") or ""),
    }


def _method(run: Mapping[str, Any]) -> str:
    strategy = run.get("strategy") or ()
    stages = [strategy] if isinstance(strategy, str) else [_named(stage) for stage in strategy]
    parts = [_named(run.get(part)) for part in ("prompt", "adapter")]
    method = ", ".join(filter(None, [" then ".join(filter(None, stages)), *parts]))
    backbone = _named(run.get("backbone"))
    return f"{method} on {backbone}" if method and backbone else method or backbone


def _named(part: Any) -> str:
    return str((part.get("name") if isinstance(part, Mapping) else part) or "")


def _classes(names: Sequence[str]) -> str:
    return " or ".join(names) if len(names) <= _MOST_CLASSES else f"{len(names)} classes"
