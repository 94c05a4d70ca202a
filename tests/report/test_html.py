"""Tests of the page: it parses, loads nothing, and is accessible without pictures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, build_report, render_html, write_html, write_report
from tests.evaluation.data import random_predictions

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Parser that checks the nesting of elements, and keeps start tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\xa0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report_of(predictions: Predictions, names: list[str], **options: Any) -> dict[str, Any]:
    return build_report(predictions, class_names=names, rounds=20, **options)


def page_of(report: dict[str, Any]) -> Page:
    return Page(render_html(report, {"figure.png": b"png", "prompt.png": b"png"}))


def test_page_loads_nothing_from_outside() -> None:
    page = page_of(report_of(random_predictions(), ["a", "b", "c"], run_info={"weights": "https://example.org/w.pt"}))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        source, place = attributes.get("src"), attributes.get("href")
        assert source is None or source.startswith("data:image/png;base64,")
        assert place is None or place.startswith("#")
    policy = [tag["content"] or "" for tag in page.all("meta") if "http-equiv" in tag]
    assert policy[0].startswith("default-src 'none'")
    assert not re.search(r"url\(|@import", render_html(report_of(random_predictions(), ["a", "b", "c"]), {}))


def test_page_has_a_language_texts_for_pictures_and_headings_of_tables() -> None:
    page = page_of(report_of(random_predictions(), ["a", "b", "c"]))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("img")) == 2
    assert all(image["alt"] for image in page.all("img"))
    assert all(heading["scope"] in ("col", "row", "rowgroup") for heading in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 0


def test_page_says_first_how_good_it_is_and_how_sure() -> None:
    report = report_of(random_predictions(), ["a", "b", "c"])
    text = page_of(report).text
    assert f"{100 * report['id']['balanced_accuracy']:.1f} % balanced accuracy" in text
    low, high = report["ood"]["scanner_b"]["intervals"]["balanced_accuracy"]
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f} %; guessing gives 33.3 %." in text
    difference = 100 * (report["ood"]["scanner_b"]["balanced_accuracy"] - report["id"]["balanced_accuracy"])
    assert f"{abs(difference):.1f} points {'higher' if difference > 0 else 'lower'} than in the internal test" in text
    assert "20 resamples of the patients" in text
    order = [
        text.index(part) for part in ("Internal test", "External test", "When not", "Comparison with", "All figures")
    ]
    assert order == sorted(order)


def test_page_warns_where_patients_are_not_known() -> None:
    predictions = Predictions(ids=[f"{i}" for i in range(6)], logits=np.eye(3)[[0, 1, 2] * 2] * 2, labels=[0, 1, 2] * 2)
    text = page_of(report_of(predictions, ["a", "b", "c"])).text
    assert "the intervals are too narrow" in text
    assert "nothing is known about other scanners" in text


def test_names_cannot_put_markup_into_the_page() -> None:
    predictions = random_predictions()
    predictions.domains = [name.replace("scanner_b", "<img src=x>") for name in predictions.domains]
    report = report_of(predictions, ["<b>", "&amp;", '"c"'], run_info={"<i>": ["<u>"]})
    page = page_of(report)
    assert not {"b", "i", "u"} & {tag for tag, _ in page.tags}
    assert len(page.all("img")) == 2
    assert "External test: <img src=x>" in page.text


@pytest.mark.parametrize("present", [[0], []])
def test_page_can_say_that_figures_are_missing(present: list[int]) -> None:
    predictions = random_predictions()
    labels = np.where(np.isin(predictions.labels, present), predictions.labels, -1)
    report = report_of(Predictions(ids=predictions.ids, logits=predictions.logits, labels=labels), ["a", "b", "c"])
    text = page_of(report).text
    assert "None" not in text
    assert "nan" not in text


def test_page_is_made_again_from_the_folder(tmp_path: Path) -> None:
    predictions = random_predictions()
    write_report(tmp_path, report_of(predictions, ["a", "b", "c"]), predictions)
    first = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    assert write_html(tmp_path).read_text() == first


@pytest.mark.parametrize("content", [None, "{", json.dumps({"files": {}})])
def test_folder_without_a_report_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(MovlError, match="No page can be made from .*; evaluate again"):
        write_html(tmp_path)
