"""Page of an experiment with several arms or runs: a verdict, an open table, and folded details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from movl_monai.report import render_template

__all__ = ["Block", "Table", "no_clear_difference", "render_experiment"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a caption.

    Args:
        rows: cells by heading; the first names the row. Numbers get three decimals, None is a dash.
        caption: sentence above the table, or "".
    """

    rows: Sequence[Mapping[str, Any]]
    caption: str = ""

    @property
    def columns(self) -> list[str]:
        """Headings in the order of appearance."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


@dataclass(frozen=True, kw_only=True)
class Block:
    """Part of a page under a heading.

    Args:
        title: the heading.
        tables: its tables.
        lines: a list of sentences; text between backticks is code.
        picture: a PNG, or None.
        about: caption of the picture.
        folded: True for a part that opens on a click and in print.
    """

    title: str
    tables: Sequence[Table] = ()
    lines: Sequence[str] = ()
    picture: bytes | None = None
    about: str = ""
    folded: bool = True


def render_experiment(*, title: str, facts: Sequence[str], verdict: str, blocks: Sequence[Block]) -> str:
    """Render the page of an experiment.

    Args:
        title: kind of experiment, and what takes part.
        facts: of data and date; empty ones are left out.
        verdict: sentences without numbers: the table has them.
        blocks: parts of the page.

    Returns:
        HTML with links only within the page.
    """
    return render_template(
        "experiment.html", title=title, facts=list(filter(None, facts)), verdict=verdict, blocks=blocks
    )


def no_clear_difference(reference: str, places: Sequence[str]) -> str:
    """Return the sentence of a reference that nothing is clearly better or worse than.

    Example:
        >>> no_clear_difference("linear_probe", ["in distribution", "on scanner_b"])
        'None is clearly better or worse than linear_probe in distribution and on scanner_b.'
    """
    return f"None is clearly better or worse than {reference} {' and '.join(places)}."
