"""Differences to other runs on the same images, with the linear probe and full fine-tuning first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from movl_monai.report.words import domain_of, is_tested

__all__ = ["METRICS", "compared_runs", "difference_lines", "difference_words"]

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
