"""Figure of a comparison: the main metric of the arms on each domain, and the difference to a reference."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from movl_monai.experiments.compare.statistics import DomainFigures
from movl_monai.report.sections.canvas import chart_names

__all__ = ["draw_comparison"]

_MEAN, _SEED = "#0072B2", "#999999"


def draw_comparison(figures: Sequence[DomainFigures], *, references: Sequence[str] = (), dpi: int = 150) -> bytes:
    """Draw one column per domain: metrics above, differences to each reference below.

    Points are means, bars 95 % intervals over patients (and draws), grey points single runs.

    Args:
        figures: from :func:`compare_results`.
        references: reference arms of the differences; those without differences are left out.
        dpi: dots per inch.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    domains = list(dict.fromkeys(entry.domain for entry in figures))
    shown = [name for name in references if any(name in entry.differences for entry in figures)]
    rows = 1 + len(shown)
    count = max(sum(entry.domain == domain for entry in figures) for domain in domains)
    size = (1.6 + 3.4 * len(domains), rows * (1.3 + 0.32 * count))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, len(domains), squeeze=False, sharey="row")
    for column, (domain, called) in enumerate(zip(domains, chart_names(domains), strict=True)):
        entries = [entry for entry in figures if entry.domain == domain]
        _draw_values(axes[0, column], entries)
        title = "in distribution" if domain == "id" else f"out of distribution: {called}"
        axes[0, column].set_title(f"{title}\n{entries[0].images} {entries[0].unit}", fontsize=10)
        for row, reference in enumerate(shown, start=1):
            _draw_differences(axes[row, column], entries, reference)
    several = any(len({*entry.draws}) > 1 for entry in figures)
    meaning = (
        f"diamonds: mean; bars: 95 % intervals over {'draws and ' if several else ''}patients (images, if not known); "
    )
    # one domain alone is too narrow for one line
    figure.supxlabel(textwrap.fill(meaning + "grey: single runs", 70 * len(domains)), fontsize=8)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _draw_values(axis: Any, entries: Sequence[DomainFigures]) -> None:
    for row, entry in enumerate(entries):
        metric = entry.main
        axis.plot(entry.values[metric], [row] * len(entry.values[metric]), "o", color=_SEED, markersize=3, zorder=3)
        _draw_point(axis, row, entry.mean(metric), entry.intervals[metric])
    axis.set_xlabel(_title(entries))
    _finish(axis, [entry.arm for entry in entries])


def _draw_differences(axis: Any, entries: Sequence[DomainFigures], reference: str) -> None:
    axis.axvline(0, color="black", linewidth=0.8)
    others = [entry for entry in entries if entry.arm != reference]
    for row, entry in enumerate(others):
        difference = entry.differences.get(reference, {}).get(entry.main)
        if difference is not None:
            _draw_point(axis, row, difference.value, difference.interval)
    axis.set_xlabel(f"{_title(entries)} minus that of\n{chart_names([reference])[0]}")
    _finish(axis, [entry.arm for entry in others])


def _title(entries: Sequence[DomainFigures]) -> str:
    return entries[0].shown.heading(entries[0].main)


def _draw_point(axis: Any, row: int, value: float | None, interval: tuple[float, float] | None) -> None:
    if value is None:
        return
    if interval is not None:
        axis.plot(interval, [row, row], "-", color=_MEAN, linewidth=1.6)
    axis.plot([value], [row], "D", color=_MEAN, markersize=5, zorder=4)


def _finish(axis: Any, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), labels=chart_names(names), fontsize=9)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="x", linewidth=0.4, alpha=0.6)
    axis.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
