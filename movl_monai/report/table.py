"""Render rows of results as a table: Markdown, CSV, or aligned text for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from movl_monai.report.words import figure_with_interval

__all__ = ["figure_rows", "figure_with_interval", "render_table"]


def render_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    style: Literal["markdown", "csv", "text"] = "text",
    digits: int = 3,
) -> str:
    """Render rows as a table.

    Args:
        rows: one mapping per row; a missing value or None is shown as "-" (empty in CSV).
        columns: keys to show, which are also the headings; None takes all keys in the order of appearance.
        style: "markdown"; "csv", which keeps all digits; or "text", aligned for a terminal.
        digits: decimals of floats, except in CSV.

    Returns:
        the table with a final line break.

    Raises:
        ValueError: if the style is unknown.

    Example:
        >>> print(render_table([{"arm": "movl", "auroc": 0.91234}, {"arm": "lp", "auroc": None}]), end="")
        arm   auroc
        movl  0.912
        lp        -
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(key for row in rows for key in row))
    if style == "csv":
        return _csv(rows, names)
    if style not in ("markdown", "text"):
        raise ValueError(f"style must be 'markdown', 'csv' or 'text', got {style!r}.")
    cells = [[_text(row.get(name), digits) for name in names] for row in rows]
    numeric = [_is_numeric([row.get(name) for row in rows]) for name in names]
    return _markdown(names, cells, numeric) if style == "markdown" else _aligned(names, cells, numeric)


def figure_rows(report: Mapping[str, Any], figures: Sequence[str], *, digits: int = 3) -> list[dict[str, Any]]:
    """Return one row per section of a report (ID, each OOD domain, val) with figures and their intervals."""
    named = [("id", report.get("id")), *((f"ood: {name}", part) for name, part in report.get("ood", {}).items())]
    rows = []
    for name, section in [*named, ("val", report.get("val"))]:
        if section is not None:
            row: dict[str, Any] = {"domain": name, "n": section["n"]}
            for figure in figures:
                row[figure] = figure_with_interval(section[figure], section["intervals"][figure], digits=digits)
            rows.append(row)
    return rows


def _csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _text(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)


def _markdown(names: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(part.replace("|", "\\|").replace("\n", " ") for part in parts) + " |\n"

    rule = "| " + " | ".join("---:" if right else "---" for right in numeric) + " |\n"
    return line(names) + rule + "".join(line(row) for row in cells)


def _aligned(names: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    widths = [max(len(row[index]) for row in [list(names), *cells]) for index in range(len(names))]

    def line(parts: Sequence[str]) -> str:
        padded = [
            part.rjust(width) if right else part.ljust(width)
            for part, width, right in zip(parts, widths, numeric, strict=True)
        ]
        return "  ".join(padded).rstrip() + "\n"

    return line(names) + "".join(line(row) for row in cells)
