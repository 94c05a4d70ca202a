"""Names in pictures: drawn unchanged, or replaced by numbers."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["font_file", "is_legible", "legible", "legible_names"]

_LONGEST = 40
# drawn from right to left or joined, which not every text renderer supports
_ORDERED_OR_JOINED = frozenset(("R", "AL", "AN", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "PDF", "PDI", "FSI"))
# control and format characters, surrogates, private use, not assigned, separators of lines
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def is_legible(text: str) -> bool:
    """Return True if a text is legible in a picture: the font has every letter, and letters stand side by side.

    The font is DejaVu Sans, part of matplotlib, so that a picture is the same on every machine.

    Example:
        >>> [is_legible(text) for text in ("Größe", "肺炎", "ذات الرئة", "left\\u200b")]
        [True, False, False, False]
    """
    composed = unicodedata.normalize("NFC", text)
    return bool(composed.strip()) and all(
        ord(letter) in _letters()
        and unicodedata.bidirectional(letter) not in _ORDERED_OR_JOINED
        and unicodedata.category(letter) not in _INVISIBLE
        for letter in composed
    )


def legible(name: str, number: int, *, word: str = "class") -> str:
    """Return a name for a picture: composed, or its number if it is not legible.

    Args:
        name: of a class.
        number: of the class, as in tables, reports and masks.
        word: word before the number.

    Example:
        >>> legible("lesion", 1), legible("肺炎", 1)
        ('lesion', 'class 1')
    """
    return unicodedata.normalize("NFC", name) if is_legible(name) else f"{word} {number}"


def legible_names(names: Sequence[str], *, word: str = "class", first: int = 0, longest: int = _LONGEST) -> list[str]:
    """Return distinct names for pictures: long ones are cut, illegible or equal ones replaced by numbers.

    Args:
        names: in the order of their numbers.
        word: word before a number.
        first: number of the first name.
        longest: largest number of letters.

    Example:
        >>> legible_names(["normal", "肺炎", "p" * 50, "p" * 50 + "q"])
        ['normal', 'class 1', 'class 2', 'class 3']
    """
    numbered = list(enumerate(map(str, names), start=first))
    shown = [_cut(legible(name, number, word=word), longest) for number, name in numbered]
    counts = Counter(shown)
    return [
        text if counts[text] == 1 else f"{word} {number}" for text, (number, _) in zip(shown, numbered, strict=True)
    ]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def font_file() -> Path:
    """Return the file of DejaVu Sans."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.cache
def _letters() -> frozenset[int]:
    """Return the common letters of DejaVu Sans and of the charts' font, which a site may have changed."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    files = {str(font_file()), findfont(FontProperties())}
    return frozenset.intersection(*(frozenset(get_font(file).get_charmap()) for file in files))
