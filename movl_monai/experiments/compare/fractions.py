"""Label efficiency of arms: the comparison repeated on nested parts of the training patients."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from movl_monai.evaluation import figure_with_interval, render_table
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.statistics import DomainFigures, compare_results
from movl_monai.files import write_atomically
from movl_monai.report.sections.canvas import chart_names

__all__ = ["draw_fractions", "fraction_rows", "reached", "run_fractions", "write_fractions"]

_REFERENCE = "full_finetune"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")

Finished = dict[float, tuple[Comparison, Outcome]]


def run_fractions(fractions: Sequence[float], make: Callable[[float, Path], Comparison], folder: Path) -> Finished:
    """Run one comparison per fraction, each in a separate folder ``fraction_<f>``, all checked before the first.

    Args:
        fractions: of the training images.
        make: builds the comparison of a fraction in a folder.
        folder: parent of their folders.
    """
    comparisons: dict[float, Comparison] = {}
    for fraction in fractions:
        own = folder / f"fraction_{fraction:g}"
        if comparisons:
            _share_ids(folder / f"fraction_{fractions[0]:g}", own)
        comparisons[fraction] = make(fraction, own)
    return {fraction: (comparison, comparison.run()) for fraction, comparison in comparisons.items()}


def write_fractions(finished: Finished, folder: Path, *, command: str) -> str:
    """Write label_fractions.md, .csv and .png; return the page."""
    figures = _figures(finished)
    rows = fraction_rows(figures)
    page = "\n".join(
        [
            "# Label fractions",
            "",
            *reached(figures),
            "",
            "![Main figure of each domain by fraction of the labels](label_fractions.png)",
            "",
            render_table([_shown(row) for row in rows], style="markdown"),
            "",
            f"Command: `{command}`",
            "",
            *_sizes(finished),
            "- Fractions are of the training images, in whole patients, nested and seeded: a larger one holds a "
            "smaller one. They are the same for all arms and seeds. val is whole for every fraction, and selects and "
            "searches.",
            "- Intervals: 95 %, paired bootstrap over patients, as in the comparison of each fraction, which is in its "
            f"folder. {_chance(finished)}",
            "",
        ]
    )
    write_atomically(folder / "label_fractions.csv", render_table(rows, style="csv").encode())
    write_atomically(folder / "label_fractions.png", draw_fractions(figures))
    write_atomically(folder / "label_fractions.md", page.encode())
    return page


def fraction_rows(figures: Mapping[float, Sequence[DomainFigures]]) -> list[dict[str, Any]]:
    """Return the rows of the table, per domain, arm and fraction: mean over the seeds, difference to the reference."""
    rows = []
    for fraction, entries in figures.items():
        for entry in entries:
            row: dict[str, Any] = {"domain": entry.domain, "arm": entry.arm, "fraction": fraction}
            row["figure"] = entry.shown.heading(entry.main)
            row |= {"mean": entry.mean(entry.main), "sd": entry.sd(entry.main)}
            difference = entry.differences.get(_REFERENCE, {}).get(entry.main)
            low, high = (difference and difference.interval) or (None, None)
            row |= {"difference": None if difference is None else difference.value, "low": low, "high": high}
            rows.append(row)
    return sorted(rows, key=lambda row: (row["domain"] != "id", row["domain"], row["arm"], row["fraction"]))


def reached(figures: Mapping[float, Sequence[DomainFigures]]) -> list[str]:
    """Return, per domain and arm, the smallest fraction that reaches full fine-tuning with all labels."""
    rows, lines = fraction_rows(figures), []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        of_domain = [row for row in rows if row["domain"] == domain]
        goal = next((r["mean"] for r in of_domain if r["arm"] == _REFERENCE and r["fraction"] == 1), None)
        if goal is None:
            return [f"- The arm {_REFERENCE} has no result with all labels, so nothing can be held against it."]
        for arm in dict.fromkeys(row["arm"] for row in of_domain):
            enough = [r["fraction"] for r in of_domain if r["arm"] == arm and _at_least(r["mean"], goal)]
            said = f"with {min(enough):.0%} of the labels" if enough else "with none of the fractions"
            lines.append(
                f"- {domain}: {arm} reaches the {of_domain[0]['figure']} of {_REFERENCE} with all labels ({goal:.3f}) "
                f"{said}."
            )
    return lines


def draw_fractions(figures: Mapping[float, Sequence[DomainFigures]], *, dpi: int = 150) -> bytes:
    """Draw each domain's main figure over the fraction of the labels, a column per domain and a line per arm.

    Bars are 95 % intervals over patients; the dashed line is full fine-tuning with all labels.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    domains = list(dict.fromkeys(entry.domain for entries in figures.values() for entry in entries))
    figure = Figure(figsize=(1.2 + 3.8 * len(domains), 3.8), layout="constrained")
    axes = figure.subplots(1, len(domains), squeeze=False)[0]
    arms = list(dict.fromkeys(entry.arm for entries in figures.values() for entry in entries))
    labels = dict(zip(arms, chart_names(arms), strict=True))
    for axis, domain, called in zip(axes, domains, chart_names(domains), strict=True):
        for number, arm in enumerate(arms):
            _draw_arm(axis, figures, domain, arm, color=_COLORS[number % len(_COLORS)], label=labels[arm])
        axis.set_title("in distribution" if domain == "id" else f"out of distribution: {called}", fontsize=10)
        axis.set_xlabel("fraction of the training labels")
        axis.set_ylabel(
            next(e.shown.heading(e.main) for entries in figures.values() for e in entries if e.domain == domain)
        )
        axis.grid(linewidth=0.4, alpha=0.6)
    axes[-1].legend(fontsize=8, loc="lower right")
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _draw_arm(
    axis: Any, figures: Mapping[float, Sequence[DomainFigures]], domain: str, arm: str, *, color: str, label: str
) -> None:
    found = {f: e for f, entries in figures.items() for e in entries if (e.domain, e.arm) == (domain, arm)}
    means = {fraction: entry.mean(entry.main) for fraction, entry in found.items()}
    points = [(fraction, mean) for fraction, mean in means.items() if mean is not None]
    axis.plot(*zip(*points, strict=True), "o-", color=color, label=label, markersize=4, linewidth=1.4)
    for fraction, _ in points:
        interval = found[fraction].intervals[found[fraction].main]
        if interval is not None:
            axis.plot([fraction, fraction], interval, "-", color=color, linewidth=0.8, alpha=0.6)
    if arm == _REFERENCE and means.get(1.0) is not None:
        axis.axhline(means[1.0], color=color, linestyle="--", linewidth=0.8)


def _figures(finished: Finished) -> dict[float, list[DomainFigures]]:
    """Return the figures by fraction; the differences are to full fine-tuning with all labels."""
    named: dict[str, tuple[float, str]] = {}
    results = []
    for fraction, (_, outcome) in finished.items():
        for result in outcome.results:
            name = f"{fraction:g} {result.arm}"
            named[name] = (fraction, result.arm)
            results.append(replace(result, arm=name))
    id_domain = next(iter(finished.values()))[0].data.test.id_domain
    figures: dict[float, list[DomainFigures]] = {fraction: [] for fraction in finished}
    for entry in compare_results(results, references=[f"1 {_REFERENCE}"], id_domain=id_domain):
        fraction, arm = named[entry.arm]
        differences = {name.partition(" ")[2]: values for name, values in entry.differences.items()}
        figures[fraction].append(replace(entry, arm=arm, differences=differences))
    return figures


def _chance(finished: Finished) -> str:
    if next(iter(finished.values()))[0].draws > 1:
        return "They hold the chance of the test images and that of the draws of training images."
    return "They hold the chance of the test images, not that of the training images."


def _share_ids(first: Path, own: Path) -> None:
    """Let a fraction use the salt of the first one, so that an image has one id in all fractions."""
    source, target = (folder / "local" / "id_map.json" for folder in (first, own))
    if source.is_file() and not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}-{os.getpid()}")
        shutil.copy2(source, temporary)  # with its permissions: it identifies patients
        temporary.replace(target)


def _at_least(mean: float | None, goal: float) -> bool:
    return mean is not None and mean >= goal - 1e-9


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    mean, sd = row["mean"], row["sd"]
    spread = "no result" if mean is None else f"{mean:.3f}" + ("" if sd is None else f" ± {sd:.3f}")
    interval = None if row["low"] is None else (row["low"], row["high"])
    return {
        "domain": row["domain"],
        "arm": row["arm"],
        "labels": f"{row['fraction']:.0%}",
        "figure": row["figure"],
        "mean": spread,
        f"minus {_REFERENCE} with all [95 %]": ""
        if row["difference"] is None
        else figure_with_interval(row["difference"], interval),
    }


def _sizes(finished: Finished) -> list[str]:
    lines = []
    for fraction, (comparison, _) in finished.items():
        train = comparison.data.sizes()["train"]
        patients = "not known" if train["patients"] is None else train["patients"]
        classes = ", ".join(f"{name} {count}" for name, count in train["classes"].items())
        lines.append(f"- {fraction:.0%}: {train['images']} training images ({classes}; patients: {patients})")
    return lines
