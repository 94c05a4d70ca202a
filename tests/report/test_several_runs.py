"""Several runs on one page: columns, differences, and gaps where the test images differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.cli import main
from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, StoredOutputs, build_report, write_outputs
from movl_monai.metrics.declared import CLASS_FIGURES
from movl_monai.report.sections.runs import render_runs
from movl_monai.report.several_runs import compare_reports, evaluation_folder, write_comparison
from tests.browser import assert_fits
from tests.report.full_report import full_report
from tests.report.once import assert_once, distinct
from tests.report.test_html import Page

NAMES = ["normal", "pneumonia"]


def write_run(folder: Path, *, skill: float, count: int = 80, **entries: Any) -> Path:
    """A run with a report and stored outputs; all runs have the same images."""
    draw = np.random.default_rng(1)
    labels = np.arange(count) % 2
    logits = draw.normal(size=(count, 2))
    logits[np.arange(count), labels] += skill
    predictions = Predictions(
        ids=[f"{number:012x}" for number in range(count)],
        logits=logits,
        labels=labels,
        domains=["id" if number < count // 2 else "scanner_b" for number in range(count)],
        splits=["test"] * count,
        patients=[f"{number // 2:012x}" for number in range(count)],
        patient_ids=[f"{number // 2:012x}" for number in range(count)],
    )
    run = {"seed": 0, "strategy": [{"name": folder.name, "epochs": 3}]}
    report = build_report(predictions, class_names=NAMES, rounds=20, run_info=run) | {"files": {}, **entries}
    target = folder / "evaluation"
    target.mkdir(parents=True)
    (target / "report.json").write_text(json.dumps(report))
    write_outputs(target / "outputs.npz", StoredOutputs(predictions=predictions, class_names=NAMES))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder / name, skill=skill) for name, skill in (("linear_probe", 0.5), ("joint", 3.0))]


def test_differences_are_those_of_the_reports(runs: list[Path]) -> None:
    compared = compare_reports(runs, rounds=50)
    assert compared["names"] == ["linear_probe", "joint"]
    for key in ("id", "ood:scanner_b"):
        found = compared["differences"]["joint"]["sections"][key]["balanced_accuracy"]
        parts = [report["id"] if key == "id" else report["ood"]["scanner_b"] for report in compared["reports"].values()]
        assert found["a"] == pytest.approx(parts[1]["balanced_accuracy"], abs=1e-12)
        assert found["difference"] == pytest.approx(found["a"] - parts[0]["balanced_accuracy"], abs=1e-12)
        assert found["interval"][0] <= found["difference"] <= found["interval"][1]


def test_the_page_has_a_column_for_each_run_and_says_which_is_better(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *map(str, runs), "--output_dir", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "comparison.html")
    content = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    page = Page(content)
    compared = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    difference = compared["differences"]["joint"]["sections"]["id"]["balanced_accuracy"]["difference"]
    assert f"internal test: better, {100 * difference:+.1f} points balanced accuracy" in page.text
    for report in compared["reports"].values():
        assert f"{report['ood']['scanner_b']['auroc']:.3f}" in page.text
    assert "strategy 1 name" in page.text
    assert str(tmp_path) not in content
    assert "://" not in content
    assert (tmp_path / "out" / "runs.png").is_file()


def test_other_test_images_are_a_marked_gap_and_no_number(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "fewer", skill=1.0, count=60)
    compared = compare_reports([*runs, other], rounds=20)
    assert compared["differences"]["joint"]["sections"]
    assert compared["differences"]["fewer"]["sections"] == {}
    page = Page(write_comparison([*runs, other], tmp_path / "out").read_text(encoding="utf-8"))
    assert page.text.count("No difference can be given. ") == 2
    assert "Against linear_probe in the internal test: joint clearly better." in page.text
    assert "were evaluated on different images" in page.text
    assert "The runs have different numbers of images here" in page.text


def test_a_run_without_stored_outputs_has_figures_and_no_difference(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "old")
    (tmp_path / "old" / "evaluation" / "outputs.npz").unlink()
    compared = compare_reports([runs[0], tmp_path / "old"])
    assert "no stored outputs" in compared["differences"]["old"]["notes"][0]
    assert compared["reports"]["old"]["id"]["n"] == 40


def test_runs_of_one_name_are_told_apart_by_the_folder_above(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / arm / "seed_0", skill=1.0) for arm in ("lp", "joint")]
    assert compare_reports(folders, rounds=5)["names"] == ["lp/seed_0", "joint/seed_0"]


def test_the_comparison_fits_a_desktop_a_phone_and_paper(runs: list[Path], tmp_path: Path) -> None:
    hostile = [write_run(tmp_path / name, skill=1.0) for name in ("x" * 200, "肺炎 <b>", "c", "d", "e")]
    page = write_comparison([*runs, *hostile], tmp_path / "out").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert_fits(page, tmp_path, height=20_000)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"schema_version": 99}, "has schema version 99; this version of movl_monai reads 1 and 2"),
        ({"task": "segmentation"}, "different tasks"),
    ],
)
def test_reports_that_cannot_be_put_together_say_so(
    runs: list[Path], tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    with pytest.raises(MovlError, match=message):
        compare_reports([runs[0], write_run(tmp_path / "other", skill=1.0, **entries)])


def test_one_run_twice_or_none_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MovlError, match="two or more different runs"):
        compare_reports([runs[0], runs[0] / "evaluation"])
    with pytest.raises(MovlError, match="There is no report in"):
        evaluation_folder(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{0}", "{1}", "--against", "{0}"], "--against needs one RUN"),
        (["{0}", "--output_dir", "x"], "--output_dir needs several runs"),
        (["none"], "There is no report in 'none'"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(
    runs: list[Path], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["report", *(word.format(*runs) for word in words)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_report_of_the_first_schema_gets_a_page_that_marks_what_it_lacks(tmp_path: Path) -> None:
    old = {key: value for key, value in full_report().items() if key in ("id", "ood", "val", "classes", "run", "notes")}
    (tmp_path / "report.json").write_text(json.dumps({**old, "schema_version": 1, "id_domain": "id", "files": {}}))
    assert main(["report", str(tmp_path)]) == 0
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "OOD detection is not in this report. report.json gives no reason; evaluate again" in text


def test_every_number_of_the_page_stands_once(runs: list[Path]) -> None:
    numbered = distinct(compare_reports(runs, rounds=5))
    assert assert_once(numbered, render_runs(numbered, CLASS_FIGURES, None)) > 100
