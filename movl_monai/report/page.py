"""Self-contained HTML pages from templates, without external resources, which can be mailed and printed."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from movl_monai.report import words

__all__ = ["fit_pictures", "render_template"]

_FOLDER = Path(__file__).parent
_LONG_WORD = 18
_PAGE_PICTURES = 1_900_000  # largest total of PNG bytes in a page: 2.5 MB as base64, which leaves room for the tables


def render_template(template: str, **values: Any) -> str:
    """Render a template of this package; all values are escaped.

    Args:
        template: file name in ``templates``.
        values: variables of the template.

    Returns:
        HTML without external resources.

    Raises:
        jinja2.UndefinedError: if the template uses a value or a key that is missing.

    Example:
        >>> render_template("page.html").splitlines()[:2]
        ['<!DOCTYPE html>', '<html lang="en">']
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "keys_of": words.keys_of,
        "notes_of": words.notes_of,
        "notes_under": words.notes_under,
        "style_sheet": _style_sheet,
    }
    environment.tests |= {
        "has": lambda part, key: key in part,
        "list": lambda value: isinstance(value, list),
        "long": _is_long,
    }
    environment.filters |= {
        "bounds": words.bounds_words,
        "base64": lambda data: base64.b64encode(data).decode(),
        "code": words.with_code,
        "interval": words.interval_words,
        "number": words.text_number,
        "percent": words.percent,
        "prefixed": lambda text, prefix: f"{prefix}{text}",
        "readable": words.readable,
        "section_title": words.section_title,
    }
    return environment


def _style_sheet(name: str) -> Markup:
    """Return a style sheet of this package as it is; its text is not data."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def _is_long(text: str) -> bool:
    # only words too long for their column may be broken: the browser would break short ones as well
    return max(map(len, text.split()), default=0) > _LONG_WORD


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
