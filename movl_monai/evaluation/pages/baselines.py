"""Differences to other runs on the same images, with the linear probe and full fine-tuning first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from movl_monai.evaluation.pages.parts import (
    domain_of,
    gap,
    listed,
    notes_of,
    number_cell,
    paragraphs,
    readable,
    section_title,
)
from movl_monai.page import bullets, cell, section, table, text_cell

__all__ = ["difference_words", "render_compared", "render_comparisons"]

# kind of baseline: name in a sentence, and overlay that trains it
_BASELINES = {
    "linear_probe": ("the linear probe", "strategy_linear_probe.json"),
    "full_finetune": ("full fine-tuning", "strategy_full_finetune.json"),
}
_STAGES: dict[tuple[str, ...], str] = {("linear probe",): "linear_probe", ("fine-tuning",): "full_finetune"}
_SEGMENTATION = (
    "`movl-monai report` with the folders of several runs puts them on one page, such as this one beside full "
    "fine-tuning (strategy_full_finetune.json) and beside a U-Net (model_unet.json)."
)
_METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "share of right images",
    "auroc": "AUROC",
    "dice": "mean Dice",
}
_POINTS = ("balanced_accuracy", "accuracy", "sensitivity", "specificity")


def render_compared(report: Mapping[str, Any]) -> str:
    """Return the comparison with the linear probe, full fine-tuning and other runs as HTML.

    A missing baseline is named with a hint how to add it, unless the run is that baseline.
    """
    entries = report.get("comparisons") or []
    known = {_kind(entry): entry for entry in reversed(entries)}
    own = _kind({"strategy": (report.get("run") or {}).get("strategy"), "name": ""})
    missing = {name: overlay for kind, (name, overlay) in _BASELINES.items() if kind not in known and kind != own}
    parts = [paragraphs([f"This run is {_BASELINES[own][0]} itself."])] if own in _BASELINES else []
    parts += [_short(name, known[kind]) for kind, (name, _) in _BASELINES.items() if kind in known]
    parts += [_short(str(entry["name"]), entry) for entry in entries if _kind(entry) not in _BASELINES]
    if missing and report.get("task") == "segmentation":
        parts.append(paragraphs([f"It was not compared with another run. {_SEGMENTATION}"]))
    elif missing:
        names, overlays = " or ".join(missing), " and with ".join(missing.values())
        how = f"train with {overlays} on the same data, then `movl-monai report` this run with --against that run."
        parts.append(paragraphs([f"It was not compared with {names}: {how}"]))
    return "".join(parts)


def render_comparisons(report: Mapping[str, Any]) -> str:
    """Return a table of paired differences for every compared run."""
    entries, notes = report.get("comparisons"), notes_of(report, "comparisons")
    title = "Compared with other runs"
    if not entries:
        how = "Give `movl-monai report` this run, and with --against the folder of another run on the same data."
        reasons = notes or [_SEGMENTATION if report.get("task") == "segmentation" else how]
        return section("comparisons", title, [gap("It was not compared with another run.", reasons)])
    lead = (
        "Both runs on the same images, resampled together, so that what makes an image hard for both cancels out. The "
        "difference is this run minus the other; an interval that holds 0 may be chance."
    )
    return section("comparisons", title, [f"<p>{lead}</p>", *map(_comparison, entries)])


def _comparison(entry: Mapping[str, Any]) -> str:
    rows = []
    for key, metrics in (entry.get("sections") or {}).items():
        for metric, found in (metrics or {}).items():
            if isinstance(found, Mapping):
                numbers = [number_cell(found.get("a")), number_cell(found.get("b"))]
                numbers.append(number_cell(found.get("difference"), found.get("interval")))
                rows.append([cell(section_title(key)), text_cell(_name(metric)), *numbers])
    heading = f'<h3 dir="auto">{escape(str(entry["name"]))}</h3>'
    notes = [str(note) for note in entry.get("notes") or ()]
    if not rows:
        return heading + gap("There is no difference to show.", notes)
    headings = ["Images", "Figure", "This run", "The other", "Difference"]
    shown = table(headings, rows, caption=f"Paired differences to {entry['name']}, intervals in brackets.")
    return heading + shown + _tests(entry) + listed(map(readable, notes))


def _tests(entry: Mapping[str, Any]) -> str:
    rows = []
    for key, found in (entry.get("tests") or {}).items():
        test = found.get("mcnemar") or {}
        counts = [number_cell(found.get("n")), number_cell(test.get("only_a")), number_cell(test.get("only_b"))]
        rows.append([cell(section_title(key)), *counts, number_cell(test.get("p_value"))])
    headings = ["Images", "Number", "Only this run right", "Only the other right", "p"]
    caption = "McNemar's exact test of whether both are right equally often; it takes images as independent."
    return table(headings, rows, caption=caption) if rows else ""


def _short(name: str, entry: Mapping[str, Any]) -> str:
    lines = []
    for key, metrics in (entry.get("sections") or {}).items():
        if key == "id" or key.startswith("ood:"):
            lines.append(f"{'here' if key == 'id' else domain_of(key)}: {difference_words(metrics or {})}")
    notes = [str(note) for note in entry.get("notes") or ["report.json gives no reason."]]
    found = bullets(lines) if lines else paragraphs(["No difference can be given.", *notes])
    return f'<h3 dir="auto">Than {escape(name)}</h3>{found}'


def difference_words(metrics: Mapping[str, Any]) -> str:
    """Describe the first figure with a difference in words, and whether its interval excludes 0.

    Example:
        >>> difference_words({"accuracy": {"difference": 0.02, "interval": [0.01, 0.03]}})
        'better, +2.0 points share of right images (+1.0 to +3.0)'
    """
    for metric, name in _METRICS.items():
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


def _name(metric: str) -> str:
    return _METRICS.get(metric, metric.replace("_", " "))
