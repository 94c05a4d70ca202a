"""Self-contained HTML pages: nothing is loaded from anywhere, so they can be mailed and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["STYLE", "bullets", "cell", "facts_table", "html_page", "table"]

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 64rem; margin: 0 auto;
  padding: 1rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; margin: .5rem 0 .25rem; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.25rem 0 .25rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; margin: 1rem 0; }
.card { border: 1px solid #ccd; border-top: .3rem solid #0072b2; border-radius: .3rem; padding: .25rem 1rem .75rem; }
.card.elsewhere { border-top-color: #b34e00; } .card.sure { border-top-color: #555; }
.card h2 { margin-top: .75rem; } .card p { margin: .4rem 0; }
.big { font-size: 2rem; font-weight: 600; line-height: 1.2; } .big small { font-size: .9rem; font-weight: 400; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; } caption { text-align: left; color: #444; padding: .25rem 0; }
th, td { border: 1px solid #ccd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } thead th { background: #f2f4f8; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; } figcaption { color: #444; }
code { font-size: .9em; overflow-wrap: anywhere; } .notice { border-left: .3rem solid #555; padding-left: .75rem; }
@media print { body { max-width: none; font-size: 11pt; } .card, figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; } h2, h3 { break-after: avoid; } }
"""


def html_page(title: str, body: Iterable[str], *, style: str = "") -> str:
    """Put parts of a body together to a page.

    Args:
        title: of the window.
        body: HTML; empty parts are left out.
        style: CSS behind that of all pages.

    Returns:
        HTML that a browser loads nothing for.
    """
    # the policy makes the browser refuse anything from outside
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """A table, scrolled sideways where it is too wide; the rows are lists of cells."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    table = f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def cell(text: str, *, number: bool = False) -> str:
    """A number, or else the heading of its row."""
    return f'<td class="number">{escape(text)}</td>' if number else f'<th scope="row">{escape(text)}</th>'


def bullets(items: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def facts_table(facts: Mapping[str, Any], *, caption: str) -> str:
    """A table of facts with nested values, None as not known; nothing without facts."""
    rows = [[cell(key), f"<td>{_fact(value)}</td>"] for key, value in facts.items()]
    return table(["Fact", "Value"], rows, caption=caption) if rows else ""


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(key))}: {_fact(part)}" for key, part in value.items())
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return "<br>".join(f"{index}. {_fact(part)}" for index, part in enumerate(value, start=1))
    text = "not known" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"<code>{escape(text)}</code>"
