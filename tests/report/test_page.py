"""Pages from templates: values are escaped, missing values are errors, and all files are installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from movl_monai.evaluation import render_html
from movl_monai.report import render_template
from movl_monai.report.report import build_mask_report
from tests.report.full_report import full_report

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "movl_monai" / "report"
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))
HOSTILE = "<b>&\"'{{ 7 * 7 }}"
ESCAPED = "&lt;b&gt;&amp;&#34;&#39;{{ 7 * 7 }}"


def test_a_hostile_class_name_is_text_everywhere() -> None:
    page = render_html(full_report(names=[HOSTILE, "b", "c"], domain=HOSTILE, group=HOSTILE), {})
    assert f"data: {ESCAPED} or b or c" in page
    assert page.count(ESCAPED) > 50
    assert HOSTILE not in page
    assert "<b>" not in page


def test_a_hostile_class_name_of_a_segmentation_is_text() -> None:
    report = build_mask_report([], class_names=["background", HOSTILE], rounds=10)
    page = render_html(report | {"files": {}}, {})
    assert ESCAPED in page
    assert "<b>" not in page


def test_a_note_can_hold_code_but_no_markup() -> None:
    report = full_report() | {"calibration": None, "notes": ["calibration: give `--x_y <i>` or --val_split & <u>"]}
    page = render_html(report, {})
    assert (
        '<code class="option">--x_y &lt;i&gt;</code> or <code class="option">--val_split</code> &amp; &lt;u&gt;' in page
    )


def test_a_missing_value_is_an_error_and_no_gap() -> None:
    with pytest.raises(UndefinedError, match="quality"):
        render_template("folder.html")


def test_only_fixed_texts_are_exempt_from_escaping() -> None:
    for path in TEMPLATES:
        exempt = re.findall(r"[^{]*\|\s*safe|autoescape", path.read_text(encoding="utf-8"))
        assert exempt in ([], ['% set nbsp = "&nbsp;"|safe']), path.name


def test_templates_and_style_sheets_are_installed() -> None:
    listed = re.search(r'"movl_monai\.report" = \[(.*?)\]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert listed is not None
    installed = {path for pattern in re.findall(r'"(.*?)"', listed[1]) for path in FOLDER.glob(pattern)}
    assert installed == {path for path in FOLDER.rglob("*") if path.suffix in (".html", ".css", ".json")}
    assert len(installed) > 20
