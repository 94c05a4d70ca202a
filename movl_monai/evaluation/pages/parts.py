"""Building blocks of the sections of a report's page: names, numbers, gaps and pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from movl_monai.evaluation.table import figure_with_interval
from movl_monai.page import cell

__all__ = [
    "beside",
    "big_figure",
    "card",
    "domain_of",
    "fit_pictures",
    "gap",
    "interval_words",
    "listed",
    "notes_of",
    "number_cell",
    "paragraphs",
    "percent",
    "picture",
    "readable",
    "ruler",
    "section_title",
    "text_number",
    "with_code",
]

_PAGE_PICTURES = 3_000_000  # largest total of PNG bytes in a page: 4 MB as base64, which leaves room for the tables
_NO_REASON = "report.json gives no reason; evaluate again with this version of movl_monai."


def section_title(key: str) -> str:
    """Return the name of a report's section for headings and tables.

    Example:
        >>> section_title("id"), section_title("ood:scanner_b"), section_title("val")
        ('Here (ID)', 'Elsewhere: scanner_b', 'val')
    """
    return "Here (ID)" if key == "id" else f"Elsewhere: {domain_of(key)}" if key.startswith("ood:") else key


def domain_of(key: str) -> str:
    """Return the name of a domain without its kind ("ood:x" is "x")."""
    return key.partition(":")[2] if key.startswith(("ood:", "far:")) else key


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


def text_number(value: Any, interval: Sequence[float | None] | None = None, *, digits: int = 3) -> str:
    """Format a number of a table with its interval; integers stay integers, None is a dash.

    Example:
        >>> text_number(0.9, [0.85, 0.95]), text_number(12), text_number(None)
        ('0.900 [0.850, 0.950]', '12', '-')
    """
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    known = None if interval is None else [bound for bound in interval if bound is not None]
    return figure_with_interval(value, known if known and len(known) == 2 else None, digits=digits)


def number_cell(value: Any, interval: Sequence[float | None] | None = None, *, digits: int = 3) -> str:
    """Return a table cell with :func:`text_number`."""
    return cell(text_number(value, interval, digits=digits), number=True)


def notes_of(report: Mapping[str, Any], key: str) -> list[str]:
    """Return the notes on an entry of a report: its own, or those under "<key>:" in the notes of the report."""
    entry = report.get(key)
    own = entry.get("notes") if isinstance(entry, Mapping) else None
    general = [note.partition(":")[2].strip() for note in report.get("notes", []) if str(note).startswith(f"{key}:")]
    return [readable(note) for note in (own or general)]


def readable(text: Any) -> str:
    """Return a note with section names in readable form.

    Example:
        >>> readable("ood:scanner_b: no labeled images.")
        'scanner_b: no labeled images.'
    """
    return re.sub(r"^id: ", "Here: ", re.sub(r"\b(?:ood|far):(?=\S)", "", str(text)))


def gap(what: str, reasons: Iterable[str] = ()) -> str:
    """Say that something is missing from the report, and give the reason: no place in a report may be empty."""
    why = " ".join(str(reason) for reason in reasons) or _NO_REASON
    return f'<p class="gap"><strong>{escape(what)}</strong> {with_code(why)}</p>'


def card(kind: str, title: str, big: str, sentences: Iterable[str]) -> str:
    """Return a card of the first screen; sentences are texts, ``big`` is HTML."""
    heading = f'<h2 id="card-{kind}">{escape(title)}</h2>'
    return f'<section class="card {kind}" aria-labelledby="card-{kind}">{heading}{big}{paragraphs(sentences)}</section>'


def paragraphs(sentences: Iterable[str]) -> str:
    """Return texts as paragraphs, without line breaks before a per cent sign or inside an option."""
    return "".join(f"<p>{with_code(sentence).replace(' %', '&nbsp;%')}</p>" for sentence in sentences)


def listed(notes: Iterable[str]) -> str:
    """Return notes as a list; empty without notes."""
    items = "".join(f"<li>{with_code(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


def with_code(text: str) -> str:
    """Return a text as HTML, with backticked words and options as code.

    Example:
        >>> with_code("give `--against` <a run>")
        'give <code class="option">--against</code> &lt;a run&gt;'
    """
    return re.sub(r"`([^`]+)`|(--[a-z_]+)", _code, escape(text))


def _code(found: re.Match[str]) -> str:
    text = found[1] or found[2]
    return f'<code class="option">{text}</code>' if text.startswith("--") else f"<code>{text}</code>"


def big_figure(text: str, name: str) -> str:
    """Return a number in large digits with its name."""
    return f'<p class="big">{escape(text).replace(" %", "&nbsp;%")} <small>{escape(name)}</small></p>'


def ruler(value: float, interval: Sequence[float | None] | None, chance: float | None = None) -> str:
    """Draw a value in [0, 1] as a dot on a line, its interval as a bar, and chance level as a mark.

    Example:
        >>> "from 0 to 100 %: 90.0 %, interval 80.0 to 95.0 %; guessing 50.0 %" in ruler(0.9, [0.8, 0.95], 0.5)
        True
    """
    marks = ['<line x1="1" x2="199" y1="8" y2="8" class="rail"/>']
    words = f"On a line from 0 to 100 %: {percent(value)}, {interval_words(interval)}"
    if chance is not None:
        words += f"; guessing {percent(chance)}"
        marks.append(f'<line x1="{200 * chance:.1f}" x2="{200 * chance:.1f}" y1="1" y2="15" class="chance"/>')
    if interval is not None and None not in interval:
        low, high = (200 * float(bound or 0) for bound in interval)
        marks.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8" class="span"/>')
    marks.append(f'<circle cx="{200 * min(max(value, 0.02), 0.98):.1f}" cy="8" r="4"/>')
    return f'<svg class="ruler" viewBox="0 0 200 16" role="img" aria-label="{escape(words)}">{"".join(marks)}</svg>'


def picture(data: bytes | None, *, alternative: str, caption: str, css_class: str = "", wide: bool = False) -> str:
    """Return a PNG with its caption; empty without data. A ``wide`` picture scrolls on a phone to stay readable."""
    if data is None:
        return ""
    name = f' class="{escape(css_class)}"' if css_class else ""
    source = base64.b64encode(data).decode()
    image = f'<img{name} src="data:image/png;base64,{source}" alt="{escape(alternative)}">'
    if wide:
        image = f'<div class="scroll wide" tabindex="0" role="group" aria-label="{escape(alternative)}">{image}</div>'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def beside(*parts: str) -> str:
    """Put a picture and its table side by side if there is room."""
    return f'<div class="beside">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>'


def fit_pictures(pictures: Mapping[str, bytes], *, limit: int = _PAGE_PICTURES) -> dict[str, bytes]:
    """Shrink the largest pictures until all together have at most ``limit`` bytes.

    Args:
        pictures: PNGs by file name.
        limit: largest total number of bytes.

    Returns:
        pictures under the same names; small ones are unchanged.
    """
    fitted = dict(pictures)
    while fitted and sum(map(len, fitted.values())) > limit:
        name = max(fitted, key=lambda key: len(fitted[key]))
        smaller = _smaller(fitted[name])
        if len(smaller) >= len(fitted[name]):
            break  # a picture of a few pixels cannot shrink further
        fitted[name] = smaller
    return fitted


def _smaller(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        size = (max(1, image.width * 7 // 10), max(1, image.height * 7 // 10))
        stream = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
