"""The page of a full report: required content, forbidden content, and layout at three widths."""

from __future__ import annotations

import copy
import io
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from movl_monai.evaluation import build_report, render_html
from movl_monai.metrics.declared import CLASS_FIGURES
from movl_monai.report import fit_pictures
from movl_monai.report.sections.canvas import chart_names
from movl_monai.report.sections.charts import draw_charts
from movl_monai.report.sections.first_screen import risk_at
from tests.browser import assert_fits, complaints, screenshot
from tests.evaluation.data import random_predictions
from tests.report.full_report import full_report
from tests.report.once import assert_once, distinct
from tests.report.test_html import Page

HOSTILE: dict[str, Any] = {
    "names": ["<script>alert(1)</script>", "肺炎・" * 30, "x" * 300],
    "domain": "<img src=x onerror=alert(1)>" + "ץפ" * 60,
    "group": "$\\frac{1}{0}$" + "W" * 120,
}
ENTRIES = {
    "calibration": "Calibration is not in this report.",
    "ood_detection": "OOD detection is not in this report.",
    "conformal": "Conformal sets are not in this report.",
    "abstention": "Abstention is not in this report.",
    "operating_points": "Operating points are not in this report.",
    "groups": "Groups are not in this report.",
    "comparisons": "It was not compared with another run.",
    "explanations": "Pictures of where the network looks are not in this report.",
}


def page_text(report: dict[str, Any], **pictures: bytes) -> str:
    return Page(render_html(report, pictures)).text


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return full_report()


@pytest.fixture(scope="module")
def charts(report: dict[str, Any]) -> dict[str, bytes]:
    return draw_charts(report, CLASS_FIGURES)


@pytest.fixture(scope="module")
def page(report: dict[str, Any], charts: dict[str, bytes]) -> str:
    return render_html(report, charts)


def test_every_chart_is_a_picture_of_the_page(charts: dict[str, bytes], page: str) -> None:
    names = {"ood_detection", "conformal_coverage", "conformal_size", "risk_coverage", "groups_0"}
    assert set(charts) == {f"{name}.png" for name in names} | {f"reliability_{number}.png" for number in range(4)}
    for content in charts.values():
        with Image.open(io.BytesIO(content)) as image:
            assert len(image.convert("RGB").getcolors(2**24) or []) > 20
    assert page.count("data:image/png;base64,") == len(charts)


def test_charts_are_the_same_bytes_again(report: dict[str, Any], charts: dict[str, bytes]) -> None:
    again = draw_charts({**report, "conformal": None, "abstention": None, "groups": None}, CLASS_FIGURES)
    assert again["reliability_0.png"] == charts["reliability_0.png"]
    assert not {"conformal_coverage.png", "risk_coverage.png", "groups_0.png"} & set(again)


def test_the_numbers_are_those_of_the_report(report: dict[str, Any]) -> None:
    text = page_text(report)
    numbers = [report["calibration"]["temperature"], report["ood_detection"]["chosen"]["threshold"]]
    for part in report["calibration"]["sections"].values():
        numbers += [part["before"]["brier"], *part["after"].values()]
    for one in report["ood_detection"]["sets"].values():
        numbers += [score[key] for score in one["scores"].values() for key in ("auroc", "aupr", "fpr95")]
    for method in report["conformal"]["methods"].values():
        for part in method["sections"].values():
            numbers += [*part["coverage_interval"], part["mean_size"]]
            numbers += part["per_class_coverage"].values()
    for part in report["operating_points"]["points"][0]["sections"].values():
        numbers += [part[key] for key in ("sensitivity", "specificity", "ppv", "npv")]
    for column in (report["groups"]["sex"][key] for key in ("id", "ood:scanner_b")):
        numbers += [group["balanced_accuracy"] for group in column.values()]
    for comparison in report["comparisons"]:
        for part in comparison["sections"].values():
            numbers += [found["b"] for found in part.values()]
    missing = [number for number in numbers if f"{number:.3f}" not in text and f"{number:.4g}" not in text]
    assert len(numbers) > 150
    assert missing == []


def test_the_first_screen_answers_in_plain_words(report: dict[str, Any]) -> None:
    text = page_text(report)
    first = text[: text.index("All figures")]
    here = report["comparisons"][0]["sections"]["id"]["balanced_accuracy"]
    assert "Against the linear probe" in first
    assert f"internal test: no clear difference, {100 * here['difference']:+.1f} points balanced accuracy" in first
    assert re.search(r"Internal test\s+6\.0 %\s.*scanner_b\s+60\.0 %\s.*abdominal_ct\s+85\.0 %", first, re.DOTALL)
    assert "are to hold the label in 90 % of images" in first
    assert "Below a stated probability of 81.0 % it abstains." in first
    assert "Not clearly better than guessing" in first


def test_a_baseline_that_is_missing_is_named_with_what_to_do(report: dict[str, Any]) -> None:
    text = page_text({**report, "comparisons": report["comparisons"][1:]})
    assert "It was not compared with the linear probe: train with strategy_linear_probe.json" in text
    assert "Against full fine-tuning" in text
    none = page_text({**report, "comparisons": []})
    assert "not compared with the linear probe or full fine-tuning" in none


def test_a_run_that_is_a_baseline_is_not_told_to_compare_with_itself(report: dict[str, Any]) -> None:
    run = {**report["run"], "strategy": [{"name": "linear probe", "epochs": 0}]}
    text = page_text({**report, "comparisons": [], "run": run})
    assert "This run is the linear probe itself." in text
    assert "It was not compared with full fine-tuning: train with strategy_full_finetune.json" in text


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_that_is_missing_says_why(report: dict[str, Any], entry: str) -> None:
    told = page_text({**report, entry: None, "notes": [f"{entry}: there were no such images."]})
    assert f"{ENTRIES[entry]} there were no such images." in told
    silent = {key: value for key, value in report.items() if key != entry}
    assert ENTRIES[entry] in page_text(silent)


def test_a_method_without_sets_and_a_target_without_threshold_say_why(report: dict[str, Any]) -> None:
    text = page_text(report)
    assert "No sets: APS, a threshold for each class. 9 images of a class are too few" in text
    assert "No threshold reaches a specificity of 99.9 % for pneumonia. val has 40 negatives" in text
    assert "Some gaps are not given. External test: scanner_b: one group only has all classes." in text


def test_the_title_tells_run_method_data_and_date(report: dict[str, Any]) -> None:
    run = {"strategy": [{"name": "linear probe"}, {"name": "joint"}], "prompt": "PadPrompt"}
    run |= {"backbone": {"name": "resnet50"}, "evaluated": "2026-11-30"}
    page = render_html({**report, "run": run}, {}, name="first")
    title = "first · linear probe then joint, PadPrompt on resnet50 · normal or pneumonia or effusion · 2026-11-30"
    assert f"<title>{title} · Evaluation report</title>" in page
    assert ">first</h1>" in page
    assert "data: chest study" in render_html({**report, "run": {**run, "data": "chest study"}}, {})
    assert "date not recorded" in render_html(report, {})


@pytest.mark.parametrize("classes", [3, 2])
def test_every_number_stands_once(report: dict[str, Any], classes: int) -> None:
    if classes == 2:
        outputs = random_predictions(num_classes=2)
        report = report | build_report(outputs, class_names=["a", "b"], rounds=5)
    numbered = distinct(report)
    assert assert_once(numbered, render_html(numbered, {})) > 100
    text = page_text(numbered)
    for part in (numbered["id"], *numbered["ood"].values()):
        assert f"{100 * part['balanced_accuracy']:.1f} %" in text
        assert f"{part['auroc']:.3f} AUROC" in text
        for name in report["classes"][1:]:
            assert f"{100 * part['per_class'][name]['sensitivity']:.1f} %" in text
            assert f"{100 * part['per_class'][name]['specificity']:.1f} %" in text


def test_small_groups_are_marked_and_not_hidden(report: dict[str, Any]) -> None:
    assert page_text(report).count("not stated (small)") == 3


def test_headings_and_landmarks_lead_through_the_page(page: str) -> None:
    parsed = Page(page)
    tags = [tag for tag, _ in parsed.tags]
    assert [tags.count(tag) for tag in ("header", "main", "footer", "h1")] == [1] * 4
    assert tags.count("details") == tags.count("summary") >= 10
    assert not [attributes for attributes in parsed.all("details") if "open" in attributes]
    anchors = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = [(attributes["href"] or "")[1:] for attributes in parsed.all("a")]
    assert set(links) <= anchors
    assert len(anchors) == sum("id" in attributes for _, attributes in parsed.tags)
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes["aria-labelledby"] in anchors for attributes in parsed.all("section"))
    assert all(attributes.get("aria-label") for attributes in parsed.all("svg"))
    assert all(image["alt"] for image in parsed.all("img"))


def test_colours_can_be_read(page: str) -> None:
    style = page[page.index("<style>") : page.index("</style>")]
    texts = set(re.findall(r"(?<![-\w])color: (#[0-9a-f]{3,6})", style))
    assert len(texts) >= 4
    for color in texts:
        assert all(_contrast(color, ground) >= 4.5 for ground in ("#fff", "#f2f4f8", "#fdf6ef", "#fdf1f1")), color


def test_hostile_names_stay_names() -> None:
    report = full_report(**HOSTILE)
    charts = draw_charts(report, CLASS_FIGURES)
    page = render_html(report, charts)
    parsed = Page(page)
    assert not {"script", "iframe"} & {tag for tag, _ in parsed.tags}
    assert all((image["src"] or "").startswith("data:image/png") for image in parsed.all("img"))
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    for name in (*HOSTILE["names"], HOSTILE["domain"], HOSTILE["group"]):
        assert name in parsed.text
    assert len(page) < 3_000_000


def test_names_that_the_font_lacks_are_numbered_in_charts() -> None:
    assert chart_names(["ok", "肺炎", "a" * 50]) == ["ok", "no. 2", "a" * 31 + "…"]


def test_pictures_are_shrunk_where_the_page_would_be_too_large(report: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format="PNG")
    pictures = {"figure.png": stream.getvalue(), "prompt.png": stream.getvalue(), "attention.png": b"small"}
    assert sum(map(len, pictures.values())) > 5_000_000
    assert fit_pictures(pictures)["attention.png"] == b"small"
    assert len(render_html(report, pictures)) < 3_000_000


def test_the_risk_at_a_share_is_that_of_the_next_point_of_the_curve() -> None:
    curve = {"coverage": [0.25, 0.5, 1.0], "risk": [0.0, 0.1, 0.3]}
    assert [risk_at(curve, share) for share in (0.1, 0.5, 0.6, 1.0)] == [0.0, 0.1, 0.3, 0.3]
    assert risk_at({"coverage": [], "risk": []}, 0.5) is None


@pytest.mark.parametrize("hostile", [False, True])
def test_the_page_fits_a_desktop_a_phone_and_paper(
    tmp_path: Path, hostile: bool, report: dict[str, Any], page: str
) -> None:
    if hostile:
        other = full_report(**HOSTILE)
        page = render_html(other, draw_charts(other, CLASS_FIGURES))
    assert_fits(page, tmp_path, height=20_000 if hostile else 3000)


def test_the_browser_has_nothing_to_complain_about(tmp_path: Path, page: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    assert complaints(file, tmp_path) == []
    screenshot(file, tmp_path / "page.png", tmp_path)
    with Image.open(tmp_path / "page.png") as image:
        assert len(image.convert("RGB").getcolors(2**24) or []) > 50


def test_the_report_is_not_changed_by_its_page(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    render_html(report, {})
    assert report == before


def _contrast(one: str, two: str) -> float:
    """Contrast of two colours as defined by WCAG 2.2, 1 to 21."""
    lighter, darker = sorted(map(_luminance, (one, two)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
