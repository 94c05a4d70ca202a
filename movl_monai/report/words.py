"""Numbers, names and notes as the text of a report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

__all__ = [
    "bounds_words",
    "counting_units",
    "domain_of",
    "figure_with_interval",
    "interval_words",
    "is_tested",
    "keys_of",
    "notes_of",
    "notes_under",
    "percent",
    "readable",
    "section_title",
    "text_number",
    "with_code",
]


def section_title(key: str) -> str:
    """Return the name of a report's section for headings and tables.

    Example:
        >>> section_title("id"), section_title("ood:scanner_b"), section_title("val")
        ('Internal test (ID)', 'External test: scanner_b', 'val')
    """
    return (
        "Internal test (ID)" if key == "id" else f"External test: {domain_of(key)}" if key.startswith("ood:") else key
    )


def domain_of(key: str) -> str:
    """Return the name of a domain without its kind ("ood:x" is "x")."""
    return key.partition(":")[2] if key.startswith(("ood:", "far:")) else key


def is_tested(key: str) -> bool:
    """Say whether a section holds test images."""
    return key == "id" or key.startswith("ood:")


def percent(value: float | None, *, digits: int = 1) -> str:
    """Format a share as text; "-" if undefined.

    Example:
        >>> percent(0.93456), percent(None)
        ('93.5 %', '-')
    """
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def interval_words(interval: Sequence[float | None] | None, *, level: float | None = None) -> str:
    """Describe an interval of shares in words, or its absence.

    Example:
        >>> interval_words([0.912, 0.961], level=0.95), interval_words(None)
        ('95 % interval 91.2 to 96.1 %', 'no interval')
    """
    if interval is None or any(bound is None for bound in interval):
        return "no interval"
    name = "interval" if level is None else f"{percent(level, digits=0)} interval"
    low, high = (float(bound) for bound in interval if bound is not None)
    return f"{name} {100 * low:.1f} to {percent(high)}"


def bounds_words(interval: Sequence[float | None] | None, *, percent: bool = True, brackets: bool = False) -> str:
    """Return the bounds of an interval as text, "" without one.

    Args:
        interval: its bounds, or None.
        percent: True for shares, which are given in percent.
        brackets: True for a cell of a table.

    Example:
        >>> bounds_words([0.912, 0.961]), bounds_words([0.9, 1], percent=False), bounds_words([0.9, 1], brackets=True)
        ('91.2 to 96.1 %', '0.900 to 1.000', ' [90.0, 100.0]')
        >>> bounds_words(None)
        ''
    """
    known = [bound for bound in interval or () if bound is not None]
    if len(known) != 2:
        return ""
    low, high = (f"{100 * bound:.1f}" if percent else f"{bound:.3f}" for bound in known)
    return f" [{low}, {high}]" if brackets else f"{low} to {high}{' %' if percent else ''}"


def figure_with_interval(value: float | None, interval: Sequence[float] | None, *, digits: int = 3) -> str:
    """Format a figure with its interval.

    Example:
        >>> figure_with_interval(0.9, [0.8512, 0.95]), figure_with_interval(0.9, None), figure_with_interval(None, None)
        ('0.900 [0.851, 0.950]', '0.900', '-')
    """
    if value is None:
        return "-"
    bounds = "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return f"{value:.{digits}f}{bounds}"


def text_number(
    value: Any, interval: Sequence[float | None] | None = None, *, digits: int = 3, above: bool = False
) -> str:
    """Format a number of a table with its interval; integers stay integers, None is a dash.

    Args:
        value: a number; None if undefined.
        interval: its bounds, or None.
        digits: decimals.
        above: True if the page shows the value further up: it is not said twice.

    Example:
        >>> text_number(0.9, [0.85, 0.95]), text_number(12), text_number(None)
        ('0.900 [0.850, 0.950]', '12', '-')
        >>> text_number(0.9, [0.85, 0.95], above=True), text_number(12, above=True)
        ('above [0.850, 0.950]', 'above')
    """
    if value is None:
        return "-"
    known = [bound for bound in interval or () if bound is not None]
    bounds = f" [{known[0]:.{digits}f}, {known[1]:.{digits}f}]" if len(known) == 2 else ""
    if above:
        return f"above{bounds}"
    return f"{value:.{digits}f}{bounds}" if isinstance(value, float) else str(value)


def notes_of(report: Mapping[str, Any], key: str) -> list[str]:
    """Return the notes on an entry of a report: its own, or those under "<key>:" in the notes of the report."""
    entry = report.get(key)
    own = entry.get("notes") if isinstance(entry, Mapping) else None
    return [readable(note) for note in (own or notes_under(report.get("notes", []), key))]


def notes_under(notes: Iterable[str], key: str) -> list[str]:
    """Return the notes that begin with "<key>:", without it."""
    return [note.partition(":")[2].strip() for note in notes if str(note).startswith(f"{key}:")]


def readable(text: Any) -> str:
    """Return a note with section names in readable form.

    Example:
        >>> readable("ood:scanner_b: no labeled images.")
        'scanner_b: no labeled images.'
    """
    return re.sub(r"^id: ", "Here: ", re.sub(r"\b(?:ood|far):(?=\S)", "", str(text)))


def with_code(text: str) -> Markup:
    """Return a text as HTML, with backticked words and options as code.

    Example:
        >>> print(with_code("give `--against` <a run>"))
        give <code class="option">--against</code> &lt;a run&gt;
    """
    return Markup(re.sub(r"`([^`]+)`|(--[a-z_]+)", _code, str(escape(text))))


def _code(found: re.Match[str]) -> str:
    text = found[1] or found[2]
    return f'<code class="option">{text}</code>' if text.startswith("--") else f"<code>{text}</code>"


def keys_of(parts: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """Return the keys of an entry that any of the parts has, each once.

    Example:
        >>> keys_of([{"sizes": {"1": 9}}, {"sizes": {"1": 4, "2": 5}}, {}], "sizes")
        ['1', '2']
    """
    return list(dict.fromkeys(key for part in parts for key in part.get(name) or {}))


def counting_units(page: str, unit: str) -> str:
    """Return a page of HTML whose counts of images are counts of series, studies or patients.

    Args:
        page: the page; tags, scripts and style sheets are unchanged.
        unit: "series", "study" or "patient".

    Example:
        >>> counting_units('<p title="4 images">12 test images of 12 patients, each 224 pixels.</p>', "study")
        '<p title="4 images">12 test studies of 12 patients, each 224 pixels.</p>'
    """
    several = {"study": "studies", "series": "series"}.get(unit, f"{unit}s")

    def counted(found: re.Match[str]) -> str:
        return found[1] + (several if found[2] == "images" else unit)

    # texts stand between tags; a count is a number, and at most two words before the noun
    parts = re.split(r"(<(?:style|script).*?</(?:style|script)>|<[^>]*>)", page, flags=re.DOTALL)
    return "".join(part if part.startswith("<") else _COUNTED.sub(counted, part) for part in parts)


_COUNTED = re.compile(
    r"(\b\d[\d,.]*(?: of(?: the)? \d[\d,.]*)?(?: %(?: of)?(?: the| all)?)?(?: [a-z-]+){0,2}? )(images?)\b"
)
