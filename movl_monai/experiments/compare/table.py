"""The table of a comparison: CSV with all digits, Markdown with how it was made, and the sentence that it supports."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from movl_monai.evaluation import figure_with_interval, render_table
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.facts import facts
from movl_monai.experiments.compare.statistics import Difference, DomainFigures

__all__ = ["comparison_csv", "comparison_markdown", "conclusions", "cost_rows", "domain_rows"]


def comparison_csv(outcome: Outcome, figures: Sequence[DomainFigures], references: Sequence[str]) -> str:
    """One row per domain and arm, with everything as numbers."""
    costs = {arm: _cost(outcome, arm) for arm in dict.fromkeys(entry.arm for entry in figures)}
    rows = []
    for entry in figures:
        row: dict[str, Any] = {"domain": entry.domain, "arm": entry.arm, "seeds": len({*entry.seeds})}
        row["draws"] = len({*entry.draws}) or 1
        row |= {"images": entry.images, "patients": entry.patients}
        for metric in entry.task.metrics:
            row |= {f"{metric}_mean": entry.mean(metric), f"{metric}_sd": entry.sd(metric)}
            row |= _bounds(metric, entry.intervals[metric])
        for reference in _used(figures, references):
            for metric in entry.task.metrics:
                name = f"{metric}_minus_{reference}"
                difference = entry.differences.get(reference, {}).get(metric, Difference(value=None, interval=None))
                row |= {name: difference.value, **_bounds(name, difference.interval)}
        rows.append(row | costs[entry.arm])
    return render_table(rows, style="csv")


def comparison_markdown(
    comparison: Comparison, outcome: Outcome, figures: Sequence[DomainFigures], *, command: str, picture: str
) -> str:
    """The whole table as a page."""
    references = _used(figures, comparison.plan.references)
    pictured = " and ".join(dict.fromkeys(_title(entry) for entry in figures))
    lines = [
        "# Comparison",
        "",
        *conclusions(figures, references),
        "",
        f"![{pictured[:1].upper() + pictured[1:]} by arm and domain]({picture})",
        "",
    ]
    for domain in dict.fromkeys(entry.domain for entry in figures):
        part = [entry for entry in figures if entry.domain == domain]
        title = "In distribution (test split)" if domain == "id" else f"Out of distribution: {domain}"
        people = f", {part[0].patients} patients" if part[0].patients is not None else ""
        lines += [f"## {title}: {part[0].images} {part[0].task.unit}{people}", ""]
        lines += [render_table(domain_rows(part, references), style="markdown")]
    lines += ["## Cost and choice", "", render_table(cost_rows(comparison, outcome), style="markdown")]
    lines += ["## How it was made", "", *facts(comparison, outcome, figures, command), ""]
    return "\n".join(lines)


def domain_rows(entries: Sequence[DomainFigures], references: Sequence[str]) -> list[dict[str, Any]]:
    """Rows for readers: mean ± sd, and the domain's main figure against each reference.

    Figures with a moved threshold are left out where no arm has one.
    """
    rows = []
    metrics = [
        name
        for name in (entries[0].task.metrics if entries else ())
        if name in entries[0].task.reported or any(entry.mean(name) is not None for entry in entries)
    ]
    for entry in entries:
        row: dict[str, Any] = {"arm": entry.arm}
        titles = entry.task.titles
        row |= {titles[metric]: _spread(entry.mean(metric), entry.sd(metric)) for metric in metrics}
        for reference in references:
            difference = entry.differences.get(reference, {}).get(entry.main)
            row[f"{_title(entry)} - {reference} [95 %]"] = "" if difference is None else _signed(difference)
        rows.append(row)
    return rows


def cost_rows(comparison: Comparison, outcome: Outcome) -> list[dict[str, Any]]:
    """Return rows for readers: cost of each arm, selected state, values used."""
    rows = []
    for setup in comparison.setups:
        results = [result for result in outcome.results if result.arm == setup.name]
        cost = _cost(outcome, setup.name)
        trials = outcome.trials.get(setup.name, [])
        chosen = f"trial {outcome.best[setup.name]} of {len(trials)}" if trials else "own values"
        values = ", ".join(f"{name} {_short(value)}" for name, value in results[0].values.items())
        rows.append(
            {
                "arm": setup.name,
                "trained parameters": cost["trained_parameters"],
                "% of the backbone": _percent(cost["backbone_percent"]),
                "checkpoint bytes": cost["checkpoint_bytes"],
                "train seconds": _spread(cost["train_seconds_mean"], cost["train_seconds_sd"], digits=1),
                "peak memory MB": None if cost["peak_memory"] is None else round(cost["peak_memory"] / 1e6),
                "val": _spread(cost["val_mean"], cost["val_sd"]),
                "selected state": "those of its members" if setup.arm.members else _selected(results),
                "searched values": f"{chosen}: {values}" if values else "nothing searched",
            }
        )
    return rows


def conclusions(figures: Sequence[DomainFigures], references: Sequence[str]) -> list[str]:
    """Write one sentence per reference and domain that names the arms whose interval excludes 0."""
    lines = []
    for reference in _used(figures, references):
        for domain in dict.fromkeys(entry.domain for entry in figures):
            pairs = [
                (entry.arm, entry.differences[reference][entry.main])
                for entry in figures
                if entry.domain == domain and reference in entry.differences
            ]
            title = _title(next(entry for entry in figures if entry.domain == domain))
            found = [f"{arm} ({_signed(change)})" for arm, change in pairs if change.excludes_zero]
            lines.append(
                f"- {domain}, {title} against {reference}: the 95 % interval of the difference "
                f"excludes 0 for {', '.join(found) or 'none'} (of {len(pairs)} arms)."
            )
    count = sum(len(entry.differences) for entry in figures)
    if count:
        lines.append(
            f"- These are {count} intervals; if no arm differed from any reference, about {0.05 * count:.1f} of them "
            "would exclude 0 by chance."
        )
    return lines or ["No reference arm is among the arms, so there are no differences."]


def _cost(outcome: Outcome, arm: str) -> dict[str, Any]:
    trainings = [result.training for result in outcome.results if result.arm == arm and not result.training.failed]
    row: dict[str, Any] = dict.fromkeys(("trained_parameters", "backbone_percent", "checkpoint_bytes", "peak_memory"))
    if trainings:
        row["trained_parameters"] = trainings[0].trainable_parameters
        row["backbone_percent"] = trainings[0].backbone_percent
        row["checkpoint_bytes"] = max(training.checkpoint_bytes for training in trainings)
        row["peak_memory"] = max(training.peak_memory for training in trainings)
    for name, values in (
        ("train_seconds", [training.train_seconds for training in trainings]),
        ("val", [training.score for training in trainings if training.score is not None]),
    ):
        row[f"{name}_mean"] = statistics.fmean(values) if values else None
        row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    row["start_selected"] = sum(training.epoch == 0 for training in trainings)
    return row


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _selected(results: Sequence[Any]) -> str:
    trainings = [result.training for result in results if not result.training.failed]
    if not trainings:
        return "no result"
    if all(training.epochs == 0 for training in trainings):
        return "solved, no epochs"
    start = sum(training.epoch == 0 for training in trainings)
    epochs = ", ".join(str(training.epoch) for training in trainings)
    return f"start in {start} of {len(trainings)} (epochs {epochs})"


def _title(entry: DomainFigures) -> str:
    return entry.task.titles[entry.main]


def _used(figures: Sequence[DomainFigures], references: Sequence[str]) -> list[str]:
    return [name for name in references if any(name in entry.differences for entry in figures)]


def _bounds(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _signed(difference: Difference) -> str:
    if difference.value is None:
        return "-"
    text = figure_with_interval(difference.value, difference.interval)
    return text if text.startswith("-") else f"+{text}"


def _spread(mean: float | None, sd: float | None, *, digits: int = 3) -> str:
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
