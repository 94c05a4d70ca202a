"""The table of a comparison: CSV with all digits, Markdown with how it was made, and the sentence that it supports."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from movl_monai.evaluation import figure_with_interval, render_table
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.statistics import Difference, DomainFigures
from movl_monai.experiments.compare.work import RunTask
from movl_monai.files import today
from movl_monai.metrics.declared import MOVED
from movl_monai.report.sections.experiment import Block, Table, no_clear_difference, render_experiment

__all__ = [
    "comparison_csv",
    "comparison_html",
    "comparison_markdown",
    "conclusions",
    "cost_rows",
    "domain_rows",
    "facts",
    "verdicts",
]


def facts(
    comparison: Comparison,
    outcome: Outcome,
    figures: Sequence[DomainFigures],
    command: str,
    *,
    counted: Collection[int] = (),
) -> list[str]:
    """Return lines on the data, the settings, the search, the intervals and the machine.

    Numbers of test images in ``counted`` are left out: the page has them already.
    """
    example = next((result for result in outcome.results if not result.training.failed), outcome.results[0])
    once = ", the first draw" if comparison.draws > 1 else ""
    sizes = []
    for name, part in comparison.data.sizes().items():
        learned = name in ("train", "val")
        count = f"{part['images']} images{once if learned else ''} "
        sizes.append(
            f"{name}: {count if learned or part['images'] not in counted else ''}"
            f"({', '.join(f'{key} {count}' for key, count in part['classes'].items())}; "
            f"patients: {'not known' if part['patients'] is None else part['patients']})"
        )
    settings = (
        ", ".join(f"{name} {_shown(value)}" for name, value in comparison.overrides.items()) or "as in the config"
    )
    epochs = sorted({result.training.epochs for result in outcome.results})
    moved = any(name.endswith(MOVED) for entry in figures[:1] for name in entry.shown.compared)
    seconds = comparison.images.feature_seconds()
    lines = [
        f"Command: `{command}`",
        "",
        *[f"- {line}" for line in sizes],
        *_chosen(comparison),
        f"- image size: {comparison.setups[0].image_size or 'as in the config'}; epochs trained: "
        f"{', '.join(map(str, epochs))}; settings for all arms: {settings}",
        _seeds(comparison),
        _search_fact(comparison, outcome),
        "- Selection: of the start, the states after each epoch and further candidates of the bundle (shown as later "
        f"epochs), the one with the best {example.training.metric} on val, of equals the one with the lower cross "
        f"entropy on val{_clear(comparison)}; test images are evaluated once per final run.",
        *([_threshold(figures)] if moved else []),
        _intervals(comparison, figures),
        "- Trained parameters: numbers in the parts that are trained or solved. Train seconds: wall time of training "
        "with its validations; rough where several runs share the machine, as with --jobs."
        + (
            f" The features of the plain images are computed once for all arms ({seconds:.1f} s{once}, not in the "
            "table); those of a fixed prompt belong to its arm."
            if seconds
            else ""
        ),
        "- Peak memory: " + _memory(example.training.memory),
        f"- Machine: {_machine()}; versions: {', '.join(f'{k} {v}' for k, v in example.versions.items() if v)}",
        *[f"- {name} joined as the reference; `--arms` did not name it." for name in comparison.joined],
        *[f"- {name} joined as a member of an ensemble; `--arms` did not name it." for name in comparison.members],
        *[
            f"- {setup.name}: mean of the calibrated probabilities of {', '.join(setup.arm.members)}, of one seed and "
            "draw each; what it costs is the sum of its members, and its memory that of the largest."
            for setup in comparison.setups
            if setup.arm.members
        ],
        *[f"- {setup.name}: {setup.arm.about}" for setup in comparison.setups if setup.arm.about],
    ]
    failed = [result for result in outcome.results if result.training.failed]
    return lines + [
        f"- {RunTask(run.arm, run.seed, run.draw).said(comparison.draws)}, has no result: {run.training.failed}"
        for run in failed
    ]


def _seeds(comparison: Comparison) -> str:
    several = comparison.draws > 1
    return (
        f"- seeds: {', '.join(map(str, comparison.seeds))}. A seed changes the order of the images, the random border "
        "and where an adapter or queries start; arms without these (the exact linear probe) have the same result for "
        "all seeds"
        + ("" if several else ", so their sd is 0")
        + ". The data set's splits are the same for all seeds. ± is the standard deviation over the "
        + ("draws of the means over the seeds." if several else "seeds.")
    )


def _threshold(figures: Sequence[DomainFigures]) -> str:
    text = (
        "- Moved threshold: offsets of the classes' logits that maximise balanced accuracy on val, for each run; test "
        "images have no part in them. AUROC needs no threshold."
    )
    missing = sorted({entry.arm for entry in figures if np.isnan(entry.values["accuracy_moved"]).any()})
    if missing:
        text += (
            f" None for {', '.join(missing)}: results of an earlier version, which kept no outputs of val; "
            f"`--restart {','.join(missing)}` makes them again."
        )
    return text


def _intervals(comparison: Comparison, figures: Sequence[DomainFigures]) -> str:
    patients = all(entry.patients is not None for entry in figures)
    drawn = "whole patients" if patients else "images one by one where patients are not known, else whole patients"
    if comparison.draws == 1:
        return (
            f"- Intervals: 95 %, paired bootstrap with 2000 rounds that draw {drawn}; mean over the seeds of the "
            "difference of each seed. They hold the chance of the test images, not that of the training images; "
            "`--draws` adds it."
        )
    count = comparison.draws
    return (
        f"- Intervals: 95 %, hierarchical bootstrap with 2000 rounds, paired between the arms: each draws "
        f"{count - 1} of the {count} draws of training images with replacement (one less, so that the spread of "
        f"their mean is unbiased), and {drawn} of the test images. They hold the chance of both"
        + (f"; with {count} draws the part of the training images is rough." if count < 5 else ".")
    )


def _choice(comparison: Comparison) -> str:
    return f"{comparison.draws} seeded draws" if comparison.draws > 1 else "a seeded choice"


def _first(comparison: Comparison) -> str:
    return " and the first draw" if comparison.draws > 1 else ""


def _shown(value: Any) -> Any:
    """Return only the last part of a full path: the table may leave this machine."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _search_fact(comparison: Comparison, outcome: Outcome) -> str:
    if not any(outcome.trials.values()):
        return "- Search: none (`--search 0`); every arm has its own values."
    nothing = [name for name, trials in outcome.trials.items() if not trials]
    probes = any("head_solver" in setup.train for setup in comparison.setups)
    solved = " but the L2 strength, whose whole path is solved" if probes else ""
    without = f" {', '.join(nothing)}: nothing to search{solved}." if nothing else ""
    return (
        f"- Search: {comparison.budget} trials per arm on val with seed {comparison.seeds[0]}{_first(comparison)} "
        "(optuna TPE, random for its first ten; trial 0 has the arm's own values; of equal trials the one with the "
        "lower cross entropy on val wins); the best values are used for all "
        f"seeds{' and draws' if comparison.draws > 1 else ''}.{without}"
        + (" Exact linear probes choose their L2 strength on val inside of every run." if probes else "")
    )


def _clear(comparison: Comparison) -> str:
    """Return the further condition of ``selection: clear``, where the bundle has it."""
    if comparison.setups[0].train.get("selection") != "clear":
        return ""
    return "; a state replaces the start only if it is ahead of it in 95 % of resamples of the val patients"


def _chosen(comparison: Comparison) -> list[str]:
    lines = []
    for name, count in comparison.chosen.items():
        if name == "train_fraction":
            lines.append(f"- train: {count:.0%} of the images, whole patients in a seeded order that mixes the classes")
        elif count is not None:
            lines.append(
                f"- {name.replace('_', ' ')}: {count} asked for; {_choice(comparison)}, the same for all arms and "
                "seeds, with equally many of each class and as many patients as possible"
            )
    return lines


def _memory(kind: str) -> str:
    if kind == "cuda":
        return "largest memory of tensors on the CUDA device while training."
    return (
        "resident memory of the whole process while training, with libraries and the shared images in it. Only with "
        "--jobs has each run a process of its own; else it may hold what an earlier run left."
    )


def _machine() -> str:
    facts: Mapping[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, " + ", ".join(f"{count} {name}" for name, count in facts.items()) + gpu


def comparison_csv(outcome: Outcome, figures: Sequence[DomainFigures], references: Sequence[str]) -> str:
    """One row per domain and arm, with everything as numbers."""
    costs = {arm: _cost(outcome, arm) for arm in dict.fromkeys(entry.arm for entry in figures)}
    rows = []
    for entry in figures:
        row: dict[str, Any] = {"domain": entry.domain, "arm": entry.arm, "seeds": len({*entry.seeds})}
        row["draws"] = len({*entry.draws}) or 1
        row |= {"images": entry.images, "patients": entry.patients}
        for metric in entry.shown.compared:
            row |= {f"{metric}_mean": entry.mean(metric), f"{metric}_sd": entry.sd(metric)}
            row |= _bounds(metric, entry.intervals[metric])
        for reference in _used(figures, references):
            for metric in entry.shown.compared:
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
        lines += [f"## {title}: {part[0].images} {part[0].unit}{people}", ""]
        lines += [render_table(domain_rows(part, references), style="markdown")]
    lines += ["## Cost and choice", "", render_table(cost_rows(comparison, outcome), style="markdown")]
    lines += ["## How it was made", "", *facts(comparison, outcome, figures, command), ""]
    return "\n".join(lines)


def comparison_html(
    comparison: Comparison, outcome: Outcome, figures: Sequence[DomainFigures], *, command: str, picture: bytes
) -> str:
    """Return the page of a comparison: verdict, arms by domain, figure, and folded details.

    Args:
        comparison: the comparison.
        outcome: its results.
        figures: from :func:`compare_results`.
        command: command that made it, without paths.
        picture: result of :func:`~movl_monai.experiments.compare.figure.draw_comparison`.
    """
    references = _used(figures, comparison.plan.references)
    domains = list(dict.fromkeys(entry.domain for entry in figures))
    parts = {domain: [entry for entry in figures if entry.domain == domain] for domain in domains}
    about = {domain: f"{_place(domain)}: {part[0].images} {part[0].unit}" for domain, part in parts.items()}
    others = [
        Table(rows=rows, caption=f"{_place(domain).capitalize()}. ± is a standard deviation.")
        for domain, part in parts.items()
        if len((rows := _without(domain_rows(part, ()), part[0].shown.heading(part[0].main)))[0]) > 1
    ]
    counted = {entry.images for entry in figures}
    lines = facts(comparison, outcome, figures, command, counted=counted)
    made = [line.removeprefix("- ") for line in lines if line]
    blocks = [
        Block(
            title="Arms",
            folded=False,
            tables=[Table(rows=_main_rows(parts, references), caption="; ".join(about.values()) + ".")],
        ),
        Block(
            title="Picture",
            picture=picture,
            about="Diamonds are means, bars 95 % intervals; the tables hold the numbers.",
        ),
        Block(title="Other figures", tables=others),
        Block(title="Cost and choice", tables=[Table(rows=cost_rows(comparison, outcome))]),
        Block(title="How it was made", lines=made),
    ]
    return render_experiment(
        title=f"Comparison of {', '.join(dict.fromkeys(entry.arm for entry in figures))}",
        facts=[" or ".join(comparison.data.training.class_names), f"made {today()}"],
        verdict=" ".join(verdicts(figures, references)),
        blocks=blocks,
    )


def verdicts(figures: Sequence[DomainFigures], references: Sequence[str]) -> list[str]:
    """Return, without numbers, which arms are clearly better or worse than each reference, and where none is."""
    sentences = []
    for reference in _used(figures, references):
        unclear = []
        for domain in dict.fromkeys(entry.domain for entry in figures):
            found: dict[str, list[str]] = {"better": [], "worse": []}
            for entry in figures:
                change = entry.differences.get(reference, {}).get(entry.main) if entry.domain == domain else None
                if change is not None and change.excludes_zero:
                    found["better" if (change.value or 0) > 0 else "worse"].append(entry.arm)
            words = " and ".join(f"{', '.join(arms)} clearly {word}" for word, arms in found.items() if arms)
            if words:
                sentences.append(f"Against {reference} {_place(domain)}: {words}.")
            else:
                unclear.append(_place(domain))
        if unclear:
            sentences.append(no_clear_difference(reference, unclear))
    return sentences or ["No reference arm is among the arms, so there are no differences."]


def _main_rows(parts: Mapping[str, Sequence[DomainFigures]], references: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each arm, with the main figure and its differences on every domain."""
    rows: dict[str, dict[str, Any]] = {}
    for domain, part in parts.items():
        where = "" if domain == "id" else f"{domain}: "
        for entry, row in zip(part, domain_rows(part, references), strict=True):
            title = _title(entry)
            kept = {key: text for key, text in row.items() if key == title or key.startswith(f"{title} - ")}
            rows.setdefault(entry.arm, {"arm": entry.arm}).update({where + key: text for key, text in kept.items()})
    return list(rows.values())


def _without(rows: Sequence[Mapping[str, Any]], heading: str) -> list[dict[str, Any]]:
    return [{key: text for key, text in row.items() if key != heading} for row in rows]


def _place(domain: str) -> str:
    return "in distribution" if domain == "id" else f"on {domain}"


def domain_rows(entries: Sequence[DomainFigures], references: Sequence[str]) -> list[dict[str, Any]]:
    """Rows for readers: mean ± sd, and the domain's main figure against each reference.

    Figures with a moved threshold are left out where no arm has one.
    """
    rows = []
    metrics = [
        name
        for name in (entries[0].shown.compared if entries else ())
        if not name.endswith(MOVED) or any(entry.mean(name) is not None for entry in entries)
    ]
    for entry in entries:
        row: dict[str, Any] = {"arm": entry.arm}
        row |= {entry.shown.heading(metric): _spread(entry.mean(metric), entry.sd(metric)) for metric in metrics}
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
    return entry.shown.heading(entry.main)


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
