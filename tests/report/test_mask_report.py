"""The report of a segmentation: means, counts, intervals, sections, and forbidden content."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from movl_monai.evaluation import Case, build_mask_report, cases_csv, report_rows
from movl_monai.metrics.declared import MASK_FIGURES
from movl_monai.metrics.intervals import bootstrap_means
from movl_monai.metrics.masks import FIGURES
from movl_monai.report.figure import chosen_cases
from movl_monai.report.html import render_html
from movl_monai.report.model_card import model_card_markdown
from movl_monai.report.sections.charts import draw_charts
from tests.browser import assert_fits
from tests.report.full_report import full_report
from tests.report.once import assert_once, distinct

NAMES = ["background", "a", "b"]


def _case(number: int, **options: object) -> Case:
    generator = np.random.default_rng(number)
    figures = {name: generator.random(2) for name in FIGURES}
    if number % 4 == 0:
        figures["hd95"][1] = figures["asd"][1] = np.nan
    facts = {
        "id": f"{number:012x}",
        "figures": figures,
        "images": 1,
        "shown": number,
        "predicted": np.zeros((4, 4), dtype=np.uint8),
        "present": np.array([True, number % 4 != 0]),
        "in_mm": True,
        "split": "test",
        "patient": f"Smith-{number // 2}",
        "patient_id": f"{number // 2:012x}",
    }
    return Case(**{**facts, **options})  # type: ignore[arg-type]


def test_a_section_has_the_means_over_cases_of_the_means_over_classes() -> None:
    cases = [_case(number) for number in range(9)]
    section = build_mask_report(cases, class_names=NAMES, rounds=50)["id"]
    assert section["n"] == 9
    assert section["n_patients"] == 5
    for name in FIGURES:
        assert section[name] == pytest.approx(np.mean([np.nanmean(case.figures[name]) for case in cases]))
        assert section["intervals"][name][0] <= section[name] <= section["intervals"][name][1]
    assert section["resampling"]["resampled"] == "patients"
    assert section["per_class"]["b"]["n"] == 6
    assert section["per_class"]["b"]["hd95"] == pytest.approx(np.nanmean([case.figures["hd95"][1] for case in cases]))
    assert section["dice_median"] == pytest.approx(np.median([case.mean("dice") for case in cases]))


def test_cases_without_a_value_are_counted() -> None:
    none = {name: np.full(2, np.nan if name in ("hd95", "asd") else 0.0) for name in FIGURES}
    cases = [_case(1), _case(2), _case(3, figures=none, present=np.array([False, False]))]
    report = build_mask_report(cases, class_names=NAMES, rounds=20)
    assert report["id"]["n_defined"] == {"dice": 3, "iou": 3, "sensitivity": 3, "precision": 3, "hd95": 2, "asd": 2}
    assert "1 of 3 cases have a truth without any foreground." in report["id"]["notes"]
    assert "(1 without)" in render_html(report | {"files": {}}, {})


def test_sections_are_id_each_other_domain_and_val_and_train_is_named() -> None:
    cases = [
        *(_case(number) for number in range(3)),
        *(_case(10 + number, domain="scanner_b", split="") for number in range(3)),
        *(_case(20 + number, split="val") for number in range(3)),
        _case(30, split="train"),
    ]
    report = build_mask_report(cases, class_names=NAMES, rounds=20)
    assert (report["id"]["n"], report["ood"]["scanner_b"]["n"], report["val"]["n"]) == (3, 3, 3)
    assert any("1 training cases" in note for note in report["notes"])
    assert [row["domain"] for row in report_rows(report)] == ["id", "ood: scanner_b", "val"]
    assert report["task"] == "segmentation"
    page = render_html(report | {"files": {}}, {})
    assert "External test: scanner_b" in page
    assert "://" not in page
    assert "Smith" not in page + str(report)


def test_the_order_of_the_cases_changes_nothing() -> None:
    cases = [_case(number) for number in range(8)]
    one, other = (build_mask_report(part, class_names=NAMES, rounds=30) for part in (cases, cases[::-1]))
    assert one == other


def test_pixels_and_mixed_units_are_said() -> None:
    pixels = build_mask_report([_case(1, in_mm=False), _case(2, in_mm=False)], class_names=NAMES, rounds=5)
    assert pixels["id"]["distance_unit"] == "pixels"
    assert any("in pixels and not in mm" in note for note in pixels["notes"])
    mixed = build_mask_report([_case(1, in_mm=False), _case(2)], class_names=NAMES, rounds=5)
    assert mixed["id"]["distance_unit"] == "mixed"


def test_without_test_cases_the_report_says_so() -> None:
    report = build_mask_report([_case(1, domain="x")], class_names=NAMES, rounds=5)
    assert report["id"] is None
    assert any("no test cases" in note for note in report["notes"])
    assert "No test cases were evaluated" in render_html(report | {"files": {}}, {})


def test_a_single_case_is_spoken_of_as_one_without_an_interval() -> None:
    report = build_mask_report([_case(1, images=12, patient="x")], class_names=NAMES, rounds=5)
    page = render_html(report | {"files": {}}, {})
    assert "No interval; 1 volume (12 slices) of 1 patient." in page
    assert "there is no interval from 1 case" in page


def test_the_table_of_cases_has_every_figure_and_only_salted_ids() -> None:
    cases = [_case(number) for number in range(5)]
    text = cases_csv(cases, NAMES)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["case"] for row in rows] == [case.id for case in cases]
    assert float(rows[1]["dice_b"]) == cases[1].figures["dice"][1]
    assert rows[0]["hd95_b"] == ""
    assert float(rows[3]["iou"]) == pytest.approx(cases[3].mean("iou"))
    assert "Smith" not in text


def test_means_are_resampled_by_patient() -> None:
    values = np.repeat([0.1, 0.9, 0.5, 0.4], 5)
    alone = bootstrap_means({"dice": values}, rounds=300)
    together = bootstrap_means({"dice": values}, patients=[str(k // 5) for k in range(20)], rounds=300)
    width = {name: np.ptp(result["intervals"]["dice"]) for name, result in (("alone", alone), ("together", together))}
    assert width["together"] > 1.5 * width["alone"]
    assert together["num_resampled"] == 4
    assert bootstrap_means({"dice": values[:1]}, rounds=5)["intervals"]["dice"] is None
    half = bootstrap_means({"x": np.array([1.0, np.nan, 3.0, 2.0])}, rounds=200)
    assert 1 <= half["intervals"]["x"][0] <= 2 <= half["intervals"]["x"][1] <= 3


def test_best_median_and_worst_are_chosen_by_dice() -> None:
    cases = [_case(k, figures={n: np.full(2, v) for n in FIGURES}) for k, v in enumerate((0.2, 0.9, 0.5, 0.1, 0.7))]
    assert {word: case.mean("dice") for word, case in chosen_cases(cases).items()} == {
        "best": 0.9,
        "median": 0.5,
        "worst": 0.1,
    }
    assert list(chosen_cases(cases[:2])) == ["best", "worst"]
    assert list(chosen_cases(cases[:1])) == ["only"]


def _grouped(count: int = 60) -> list[Case]:
    """Cases with Dice 0.9 in group F, 0.5 in M, and 0.1 in the few without a group."""
    levels = {"F": 0.9, "M": 0.5, "": 0.1}
    values = ["" if number < 6 else "F" if number % 4 < 2 else "M" for number in range(count)]
    return [
        _case(number, figures={name: np.full(2, levels[value]) for name in FIGURES}, groups={"sex": value})
        for number, value in enumerate(values)
    ]


def test_groups_have_their_means_and_the_gap_between_those_that_are_not_small() -> None:
    report = build_mask_report(_grouped(), class_names=NAMES, rounds=40)
    column = report["groups"]["sex"]
    assert {value: group["dice"] for value, group in column["id"].items()} == pytest.approx(
        {"F": 0.9, "M": 0.5, "": 0.1}
    )
    assert [value for value, group in column["id"].items() if group["small"]] == ["F", "M", ""]  # 14 patients at most
    gap = column["gaps"]["id"]
    assert gap["largest"] == pytest.approx(0.8)
    assert gap["between"] == ["F", ""]
    assert gap["interval"] == pytest.approx([0.8, 0.8])
    many = build_mask_report(_grouped(240), class_names=NAMES, rounds=20)["groups"]["sex"]
    assert [value for value, group in many["id"].items() if group["small"]] == [""]
    assert many["gaps"]["id"]["between"] == ["F", "M"]
    assert many["gaps"]["id"]["largest"] == pytest.approx(0.4)


def test_cases_without_columns_have_no_groups_and_the_page_says_so() -> None:
    report = build_mask_report([_case(number) for number in range(4)], class_names=NAMES, rounds=10)
    assert report["groups"] is None
    assert "No column of the manifest was named as a group" in render_html(report | {"files": {}}, {})


def test_the_report_has_a_card_with_the_counts_of_its_cases() -> None:
    report = build_mask_report([_case(1), _case(2, split="val"), _case(3, domain="b")], class_names=NAMES, rounds=10)
    rows = report["model_card"]["data"]
    assert [(row["domain"], row["split"], row["images"]) for row in rows] == [
        ("id", "val", 1),
        ("id", "test", 1),
        ("b", "test", 1),
    ]
    assert "Smith" not in str(report["model_card"])
    text = model_card_markdown(report, MASK_FIGURES)
    assert f"{report['id']['dice']:.3f}" in text
    assert "Research only" in text


def test_the_page_fits_a_desktop_a_phone_and_paper(tmp_path: Path) -> None:
    names = ["background", "<script>x</script>" + "y" * 150, "息肉" * 40]
    cases = [*_grouped(), *(_case(100 + number, domain="<img src=x>" + "z" * 150, split="") for number in range(4))]
    report = build_mask_report(cases, class_names=names, rounds=10) | {"files": {"cases_picture": "cases.png"}}
    charts = draw_charts(report, MASK_FIGURES)
    assert set(charts) == {"groups_0.png"}
    page = render_html(report, charts | {"cases.png": charts["groups_0.png"]})
    assert page.count("<img ") == 2
    assert "<script" not in page
    assert_fits(page, tmp_path, height=6000)


def test_every_number_stands_once() -> None:
    others = [_case(100 + number, domain="scanner_b", split="", groups={"sex": "F"}) for number in range(4)]
    cases = [*_grouped(), *others, *(_case(200 + number, split="val", groups={"sex": "M"}) for number in range(4))]
    report = build_mask_report(cases, class_names=NAMES, rounds=5) | {"files": {}}
    (entry,) = full_report()["comparisons"][:1]
    figures = dict.fromkeys(FIGURES, entry["sections"]["id"]["auroc"])
    entry |= {"sections": dict.fromkeys(("id", "ood:scanner_b", "val"), figures), "tests": None}
    numbered = distinct(report | {"comparisons": [entry]})
    assert assert_once(numbered, render_html(numbered, {})) > 150
