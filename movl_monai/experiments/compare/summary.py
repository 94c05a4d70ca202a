"""Summary of several comparisons: differences to the references, ranks, wins and cost, over data sets."""

from __future__ import annotations

import csv
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError
from movl_monai.evaluation import render_table
from movl_monai.report.tasks import TASKS

__all__ = ["Summary", "read_comparison", "summary_markdown"]

_HALF_WIDTHS = 2 * 1.959964  # a 95 % interval is that many standard errors wide


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm on one domain of one comparison.

    Args:
        comparison: name of the comparison.
        domain: "id", or the name of another domain.
        arm: name of the arm.
        metric: main figure of this domain.
        title: its heading.
        row: row of ``comparison.csv``, numbers as floats; None for an empty cell.
    """

    comparison: str
    domain: str
    arm: str
    metric: str
    title: str
    row: Mapping[str, float | None]

    @property
    def value(self) -> float | None:
        """The arm's main figure."""
        return self.row.get(f"{self.metric}_mean")

    def change(self, reference: str) -> tuple[float, float, float] | None:
        """Return the difference to a reference and its interval; None if the comparison has none."""
        name = f"{self.metric}_minus_{reference}"
        found = [self.row.get(key) for key in (name, f"{name}_low", f"{name}_high")]
        return None if any(part is None for part in found) else tuple(found)  # type: ignore[return-value]


def read_comparison(source: str | os.PathLike[str]) -> list[Cell]:
    """Read the ``comparison.csv`` of a comparison.

    Args:
        source: folder of a comparison, or a CSV file; the comparison is named after the folder or the file's stem.

    Raises:
        ConfigError: if the file does not exist, or is not the table of a comparison.
    """
    given = Path(source)
    path = given / "comparison.csv" if given.is_dir() else given
    name = given.name if given.is_dir() else given.stem
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [_cell(name, row) for row in rows]
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"--summary {source} cannot be read: {type(error).__name__}. Expected the --output_dir of a finished "
            "`movl-monai compare`, or its comparison.csv."
        ) from error


def _cell(name: str, row: Mapping[str, str]) -> Cell:
    domain, arm = row["domain"], row["arm"]
    known = [shown for task in TASKS.values() for shown in task.comparisons if f"{shown.main}_mean" in row]
    if not known:
        raise KeyError("no main figure")
    metric = known[0].main_of(domain)
    numbers = {key: float(text) if text else None for key, text in row.items() if key not in ("domain", "arm")}
    if f"{metric}_mean" not in numbers:
        raise KeyError(metric)
    return Cell(comparison=name, domain=domain, arm=arm, metric=metric, title=known[0].heading(metric), row=numbers)


class Summary:
    """Figures of arms over the cells of several comparisons.

    A cell is one domain of one comparison. The mean difference over cells has the interval

    .. math:: \\bar d \\pm 1.96 \\frac{1}{n} \\sqrt{\\sum_i s_i^2}

    with :math:`s_i` the standard error of cell i, the width of its 95 % interval / 3.92. It covers the chance of
    training draws and test patients, but not of other data sets.

    Args:
        cells: from :func:`read_comparison`.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.cells = list(cells)
        self.arms = list(dict.fromkeys(cell.arm for cell in self.cells))

    def rows(self, references: Sequence[str]) -> list[dict[str, Any]]:
        """Return one row per arm: mean difference, wins and losses to each reference, and average rank."""
        ranks = self._ranks()
        rows = []
        for arm in self.arms:
            cells = [cell for cell in self.cells if cell.arm == arm]
            row: dict[str, Any] = {"arm": arm, "cells": len(cells)}
            row["average rank"] = f"{statistics.fmean(ranks[arm]):.1f}" if arm in ranks else "-"
            for reference in references:
                row |= _against(reference, [change for cell in cells if (change := cell.change(reference)) is not None])
            rows.append(row)
        return rows

    def _ranks(self) -> dict[str, list[float]]:
        """Return the ranks of each arm (1 is best, ties share their mean) in the cells that all arms have."""
        ranks: dict[str, list[float]] = {}
        for key in dict.fromkeys((cell.comparison, cell.domain) for cell in self.cells):
            values = {
                cell.arm: cell.value
                for cell in self.cells
                if (cell.comparison, cell.domain) == key and cell.value is not None
            }
            if len(values) < len(self.arms):
                continue
            for arm, value in values.items():
                better = sum(other > value for other in values.values())
                ties = sum(other == value for other in values.values())
                ranks.setdefault(arm, []).append(better + (ties + 1) / 2)
        return ranks

    def costs(self) -> list[dict[str, Any]]:
        """Return one row per arm: medians over the comparisons."""
        rows = []
        for arm in self.arms:
            own = [cell.row for cell in self.cells if cell.arm == arm and cell.domain == "id"]
            seconds, memory = _median(own, "train_seconds_mean"), _median(own, "peak_memory")
            percent, size = _median(own, "backbone_percent"), _median(own, "checkpoint_bytes")
            rows.append(
                {
                    "arm": arm,
                    "trained parameters": _rounded(_median(own, "trained_parameters")),
                    "% of the backbone": "-" if percent is None else f"{percent:.3g}",
                    "checkpoint bytes": _rounded(size),
                    "train seconds": _rounded(seconds),
                    "peak memory MB": _rounded(None if memory is None else memory / 1e6),
                }
            )
        return rows


def summary_markdown(cells: Sequence[Cell], *, references: Sequence[str]) -> str:
    """Return the summary as Markdown: in distribution, out of distribution, cost.

    Args:
        cells: of all comparisons.
        references: arms to compare with; those without a difference in any cell are left out.
    """
    known = [name for name in references if any(cell.change(name) for cell in cells)]
    lines = []
    for title, inside in (("In distribution", True), ("Out of distribution", False)):
        part = [cell for cell in cells if (cell.domain == "id") == inside]
        if not part:
            continue
        columns = dict.fromkeys(
            f"{cell.comparison}{'' if inside else ' ' + cell.domain} ({cell.title})" for cell in part
        )
        lines += [f"## {title}", "", "Cells: " + "; ".join(columns) + ".", ""]
        lines += [render_table(Summary(part).rows(known), style="markdown")]
        lines += [render_table(_values(part), style="markdown")]
    lines += ["## Cost (medians over the comparisons)", "", render_table(Summary(cells).costs(), style="markdown")]
    return "\n".join(lines)


def _values(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    rows = []
    for arm in dict.fromkeys(cell.arm for cell in cells):
        row: dict[str, Any] = {"arm": arm}
        for cell in cells:
            name = cell.comparison + ("" if cell.domain == "id" else f" {cell.domain}")
            row.setdefault(name, "-")
            if cell.arm == arm and cell.value is not None:
                spread = cell.row.get(f"{cell.metric}_sd")
                row[name] = f"{cell.value:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
        rows.append(row)
    return rows


def _against(reference: str, changes: Sequence[tuple[float, float, float]]) -> dict[str, str]:
    difference, score = f"mean difference to {reference} [95 %]", f"better / worse than {reference} (clear)"
    if not changes:
        return {difference: "", score: ""}
    mean = statistics.fmean(value for value, *_ in changes)
    errors = [(high - low) / _HALF_WIDTHS for _, low, high in changes]
    half = 1.959964 * math.sqrt(sum(error**2 for error in errors)) / len(changes)
    better, worse = sum(value > 0 for value, *_ in changes), sum(value < 0 for value, *_ in changes)
    clear = f"({sum(low > 0 for _, low, _ in changes)} / {sum(high < 0 for *_, high in changes)})"
    return {difference: f"{mean:+.3f} [{mean - half:.3f}, {mean + half:.3f}]", score: f"{better} / {worse} {clear}"}


def _median(rows: Sequence[Mapping[str, float | None]], key: str) -> float | None:
    values = [value for row in rows if (value := row.get(key)) is not None]
    return statistics.median(values) if values else None


def _rounded(value: float | None) -> int | str:
    return "-" if value is None else round(value)
