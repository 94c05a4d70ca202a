"""Self-contained HTML pages without external resources, which can be mailed and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["STYLE", "bullets", "cell", "contents", "facts_table", "html_page", "section", "table", "text_cell"]

_LONG_WORD = 18

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 72rem; margin: 0 auto;
  padding: 1rem 1.25rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0 .25rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
h1, h2, h3 { text-wrap: balance; overflow-wrap: anywhere; }
p, ul, ol { max-width: 46rem; } li { margin: .2rem 0; overflow-wrap: anywhere; }
a { color: #005a8f; } a:focus-visible, [tabindex]:focus-visible { outline: 3px solid #005a8f; outline-offset: 2px; }
.skip { position: absolute; left: -100rem; background: #fff; padding: .5rem; } .skip:focus { left: 0; top: 0; }
nav ul { display: flex; flex-wrap: wrap; gap: 0 1rem; list-style: none; padding: 0; margin: .75rem 0; max-width: none; }
nav li { margin: 0; } nav a { display: inline-block; padding: .25rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: .75rem;
  margin: .75rem 0; }
.card { border: 1px solid #ccd; border-top: .3rem solid #0072b2; border-radius: .3rem; padding: .1rem .9rem .6rem;
  min-width: 0; overflow-wrap: anywhere; font-size: .95rem; line-height: 1.4; }
.card.elsewhere { border-top-color: #b34e00; } .card.sure { border-top-color: #555; }
.card.other { border-top-color: #00664b; } .card.outside { border-top-color: #8a3a6b; }
.card h2 { margin: .5rem 0 .15rem; font-size: 1.15rem; } .card p { margin: .35rem 0; }
.card h3 { font-size: .95rem; margin: .3rem 0 0; }
.big { font-size: 1.9rem; font-weight: 600; line-height: 1.2; } .card .big { margin: .1rem 0; }
.big small { font-size: .9rem; font-weight: 400; }
.ruler { display: block; width: 100%; max-width: 20rem; height: auto; margin: .1rem 0 .3rem; }
.ruler .rail { stroke: #b8bcc8; stroke-width: 1.5; }
.ruler .chance { stroke: #555; stroke-width: 1.2; stroke-dasharray: 2; }
.ruler .span { stroke: #0072b2; stroke-width: 5; } .ruler circle { fill: #00344f; }
.elsewhere .ruler .span { stroke: #b34e00; } .elsewhere .ruler circle { fill: #5c2800; }
.places { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14rem, 100%), 1fr)); gap: .25rem 1.25rem; }
.places > div { min-width: 0; } code.option { white-space: nowrap; } .card ul { margin: .1rem 0; padding-left: 1.1rem; }
.alarm { color: #a00000; font-weight: 600; } .legend { font-size: .85rem; color: #444; margin: -.25rem 0 0; }
@media (min-width: 60rem) {
  .cards.first { grid-template-columns: repeat(6, minmax(0, 1fr)); } .cards.first > * { grid-column: span 2; }
  .cards.first > .elsewhere { grid-column: span 4; }
}
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .5rem 0 1rem; }
caption { text-align: left; color: #444; padding: .25rem 0; }
caption span { display: inline-block; position: sticky; left: 0; max-width: min(46rem, 100vw - 2.75rem); }
th, td { border: 1px solid #ccd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
th { max-width: 18rem; } th.long { overflow-wrap: anywhere; min-width: 9rem; } tbody th { font-weight: 500; }
td { max-width: 40rem; } td.long { overflow-wrap: anywhere; min-width: 9rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
td.number span { white-space: nowrap; } thead th { background: #f2f4f8; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); gap: 0 1rem; }
.panels figure { margin: .5rem 0; } .panels figcaption { font-size: .9rem; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem;
  align-items: start; } .beside > * { min-width: 0; }
.beside table { font-size: .875rem; } .beside th, .beside td { padding: .25rem .4rem; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; } figcaption { color: #444; max-width: 46rem; overflow-wrap: anywhere; }
code { font-size: .9em; overflow-wrap: anywhere; } .notice { border-left: .3rem solid #555; padding-left: .75rem; }
.gap { border-left: .3rem solid #b34e00; padding: .1rem .75rem; background: #fdf6ef; overflow-wrap: anywhere; }
.warning { border-left: .3rem solid #a00000; padding: .1rem .75rem; background: #fdf1f1; overflow-wrap: anywhere; }
footer { margin-top: 3rem; border-top: 1px solid #ccd; color: #444; }
@media (max-width: 40rem) {
  .wide img { max-width: none; width: 48rem; }
  tbody th { position: sticky; left: 0; background: #fff; max-width: 10rem; }
}
@page { margin: 14mm; }
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; } nav, .skip { display: none; } a { color: inherit; }
  h2 { margin-top: 1.25rem; } h1, h2, h3, caption { break-after: avoid; } thead { display: table-header-group; }
  .card, figure, tr, .gap, .warning { break-inside: avoid; } .cards { gap: .4rem; }
  .card { font-size: 8.5pt; padding: 0 .5rem .3rem; } .card h2 { font-size: 11pt; } .big { font-size: 16pt; }
  .cards.first { grid-template-columns: repeat(6, minmax(0, 1fr)); } .cards.first > * { grid-column: span 2; }
  .cards.first > .elsewhere { grid-column: span 4; }
  .beside { display: block; } .panels { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .scroll { overflow: visible; } img, .wide img { max-height: 22cm; max-width: 100%; width: auto; }
  table { max-width: 100%; font-size: 8.5pt; } th, td { padding: .15rem .3rem; overflow-wrap: anywhere; }
  th.long, td.long { min-width: 0; }
  td.number span { white-space: normal; } caption { font-size: 9pt; }
  caption span { display: inline; overflow-wrap: anywhere; } tbody th { position: static; }
}
"""


def html_page(title: str, body: Iterable[str], *, style: str = "") -> str:
    """Assemble parts of a body into a page.

    Args:
        title: of the window.
        body: HTML; empty parts are left out.
        style: CSS after the common style.

    Returns:
        HTML without external resources.
    """
    # the policy makes the browser refuse external resources
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def section(anchor: str, title: str, parts: Iterable[str]) -> str:
    """Return a section of a page under a heading to which :func:`contents` can link.

    Args:
        anchor: unique name of the section in the page.
        title: text of the heading.
        parts: HTML; empty ones are left out.

    Example:
        >>> section("notes", "Notes", ["<p>None.</p>"])
        '<section aria-labelledby="notes">\\n<h2 id="notes">Notes</h2>\\n<p>None.</p>\\n</section>'
    """
    inside = "\n".join(part for part in parts if part)
    name = escape(anchor)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{inside}\n</section>'


def contents(places: Mapping[str, str]) -> str:
    """Return links to the sections of a page, by anchor."""
    links = "".join(f'<li><a href="#{escape(anchor)}">{escape(title)}</a></li>' for anchor, title in places.items())
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """Return a table that scrolls sideways if it is too wide; the rows are lists of cells."""
    head = "".join(_heading(heading, "col") for heading in headings)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    title = f"<caption><span>{escape(caption)}</span></caption>"
    table = f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    # scrollable parts must be reachable by keyboard
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}">{table}</div>'


def cell(text: str, *, number: bool = False) -> str:
    """Return a cell: a number, possibly followed by an interval in brackets, or else the heading of its row."""
    if not number:
        return _heading(text, "row")
    value, bracket, rest = text.partition(" [")
    interval = f" <span>[{escape(rest)}</span>" if bracket else ""
    return f'<td class="number"><span>{escape(value)}</span>{interval}</td>'


def text_cell(text: str) -> str:
    """Return a cell of words."""
    return f'<td dir="auto"{_long(text)}>{escape(text)}</td>'


def _heading(text: str, scope: str) -> str:
    return f'<th scope="{scope}" dir="auto"{_long(text)}>{escape(text)}</th>'


def _long(text: str) -> str:
    # only a word too long for its column may be torn: the browser would tear short ones as well
    return ' class="long"' if max(map(len, text.split()), default=0) > _LONG_WORD else ""


def bullets(items: Iterable[str]) -> str:
    """Return a list of texts."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def facts_table(facts: Mapping[str, Any], *, caption: str) -> str:
    """Return a table of facts with nested values, None as not known; "" without facts."""
    rows = [[cell(key), f'<td class="long">{_fact(value)}</td>'] for key, value in facts.items()]
    return table(["Fact", "Value"], rows, caption=caption) if rows else ""


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(key))}: {_fact(part)}" for key, part in value.items())
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return "<br>".join(f"{index}. {_fact(part)}" for index, part in enumerate(value, start=1))
    text = "not known" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"<code>{escape(text)}</code>"
