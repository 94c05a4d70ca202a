"""Each number stands once: give every figure of a report a number of its own, and count them on its page."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from tests.report.test_html import Page

# settings, which sentences repeat, and what only charts show
SETTINGS = {"resampling", "options", "target", "alpha", "target_risk", "target_id_kept", "schema_version", "coverage"}
SETTINGS |= {"reliability", "run", "model_card", "threshold", "notes", "risk", "confusion_matrix"}


def distinct(value: Any, numbers: Iterator[int] | None = None, key: str = "") -> Any:
    """Replace every figure of a report by a number of its own, with its digits in any format of a page."""
    numbers = itertools.count(1) if numbers is None else numbers
    if isinstance(value, dict):
        return {
            name: part if name in SETTINGS and not isinstance(part, float) else distinct(part, numbers, name)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [distinct(part, numbers, key) for part in value]
    if isinstance(value, float) and key not in SETTINGS - {"coverage", "risk"}:
        return 2 + next(numbers) / 1000
    return 10_000 + next(numbers) if isinstance(value, int) and value and not isinstance(value, bool) else value


def assert_once(report: Any, page: str) -> int:
    """Check that no number of a report stands twice in the body of its page; return how many stand there."""
    text, found = Page(page[page.index("<body>") : page.index("</html>")]).text, {}
    for number in set(numbers_of(report)):
        texts = [str(number)] if isinstance(number, int) else [f"{number:.3f}", f"{100 * number:.1f}"]
        found[number] = sum(len(re.findall(rf"(?<![\d.]){re.escape(one)}(?!\d)", text)) for one in texts)
    assert {number: count for number, count in found.items() if count > 1} == {}
    return sum(found.values())


def numbers_of(value: Any) -> Iterator[int | float]:
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(part)
    elif (isinstance(value, float) and value > 2) or (isinstance(value, int) and value > 10_000):
        yield value
