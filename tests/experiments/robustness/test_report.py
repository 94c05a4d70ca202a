"""Page, table and figure of a suite, from stored logits alone."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from movl_monai.errors import MovlError
from movl_monai.experiments.robustness import CLEAN, Cell, build_result, write_result
from movl_monai.experiments.robustness.report import (
    draw_robustness,
    robustness_csv,
    robustness_html,
    robustness_markdown,
)
from tests.report.once import assert_once, distinct
from tests.report.test_html import Page

CELLS: list[Cell] = [CLEAN, ("jpeg", 1), ("jpeg", 5), ("inversion", 1)]


def result(
    *, perfect_baseline: bool = False, runs: tuple[str, ...] = ("probe", "full"), **options: Any
) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    labels = np.arange(30) % 2
    logits = {run: {cell: np.eye(2)[labels] + generator.normal(size=(30, 2)) for cell in CELLS} for run in runs}
    if perfect_baseline:
        logits["probe"]["inversion", 1] = 9 * np.eye(2)[labels]
    patients = [f"patient {number // 2}" for number in range(30)]
    return build_result(
        logits, labels, class_names=["a", "b"], baseline="probe", patients=patients, rounds=20, **options
    )


def test_the_result_is_json_without_patients_and_says_what_was_done() -> None:
    content = result(seed=4, notes=["a note"], facts={"full": {"backbone": "tiny"}})
    text = json.dumps(content, allow_nan=False)
    assert "patient 1" not in text
    assert content["images"] == {"n": 30, "patients": 15, "classes": {"a": 15, "b": 15}}
    assert (content["seed"], content["notes"][0]) == (4, "a note")
    assert content["corruptions"]["jpeg"] == {"meaning": "quality, of 100", "parameters": {"1": 40, "5": 6}}
    assert content["facts"] == {"probe": {}, "full": {"backbone": "tiny"}}
    assert content["versions"]["movl_monai"]


def test_the_csv_has_every_cell_of_every_run_with_all_digits() -> None:
    content = result()
    rows = list(csv.DictReader(io.StringIO(robustness_csv(content))))
    found = {(row["run"], row["corruption"], int(row["severity"])): row for row in rows}
    assert list(found) == [(run, *cell) for run in ("probe", "full") for cell in CELLS]
    cell = content["runs"]["full"]["corruptions"]["jpeg"]["5"]["auroc"]
    row = found["full", "jpeg", 5]
    assert [float(row[key]) for key in ("auroc", "auroc_low", "auroc_high")] == [cell["value"], *cell["interval"]]


def facts() -> dict[str, Any]:
    fact = {"backbone": "tiny", "trainable_parameters": 2, "checkpoint_sha256": "ab" * 32}
    return {"probe": fact, "full": fact}


def test_the_page_has_the_figures_and_marks_what_has_no_value() -> None:
    content = result(perfect_baseline=True, facts=facts())
    page = robustness_markdown(content, command="movl-monai robustness ...", picture="robustness.png")
    full = content["runs"]["full"]
    for figure in (full["clean"]["auroc"], full["corruption_error"]["mean"], full["corrupted"]["balanced_accuracy"]):
        low, high = figure["interval"]
        assert f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]" in page
    assert "| inversion | - | - |" in page
    assert "mCE is over 1 of 2 corruptions, without inversion" in page
    assert "probe has no error under inversion" in page
    assert "| jpeg | 5 |" in page
    mean = np.mean([full["corruptions"]["jpeg"][severity]["balanced_accuracy"]["value"] for severity in ("1", "5")])
    assert f"{mean:.3f} |\n" in page


def test_the_html_page_has_each_figure_once_below_a_verdict() -> None:
    content = result(facts=facts())
    page = robustness_html(content, command="movl-monai robustness ...", picture=b"png")
    text = Page(page).text
    full = content["runs"]["full"]
    for part in (full["clean"], full["corrupted"], full["difference"]):
        for figure in part.values():
            assert text.count("{:.3f} [{:.3f}, {:.3f}]".format(figure["value"], *figure["interval"])) == 1
    assert "On corrupted images full is" in text[: text.index("Summary")]
    assert "Robustness on worse images: full against probe · a or b · 30 test images · made 20" in page
    assert page.count("<details>") == 8
    assert "<details open" not in page


def test_the_page_says_when_patients_are_not_known() -> None:
    content = result(facts=facts())
    content["images"]["patients"] = None
    content["resampling"]["resampled"] = "images"
    page = robustness_markdown(content, command="")
    assert "of unknown patients" in page
    assert "intervals], over images" in page


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc"])
def test_the_picture_has_a_panel_for_each_corruption(metric: str) -> None:
    small = draw_robustness(result(runs=("probe", "full", "$x_1$")), metric=metric, dpi=50)
    content = result()
    content["corruptions"] = {f"jpeg {number}": {} for number in range(5)}
    for part in content["runs"].values():
        part["corruptions"] = dict.fromkeys(content["corruptions"], part["corruptions"]["jpeg"])
    large = draw_robustness(content, metric=metric, dpi=50)
    with Image.open(io.BytesIO(small)) as one, Image.open(io.BytesIO(large)) as two:
        assert (one.format, one.size[0] < two.size[0], one.size[1] < two.size[1]) == ("PNG", True, True)
        assert np.asarray(one).std() > 10


def test_all_files_are_written_and_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    content = result(facts=facts())
    page = write_result(tmp_path / "new", content, command="")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "robustness.csv",
        "robustness.html",
        "robustness.json",
        "robustness.md",
        "robustness.png",
    ]
    assert (tmp_path / "new" / "robustness.md").read_text(encoding="utf-8") == page
    assert json.loads((tmp_path / "new" / "robustness.json").read_text(encoding="utf-8")) == content
    (tmp_path / "file").touch()
    with pytest.raises(MovlError, match="cannot be written"):
        write_result(tmp_path / "file", content, command="")


def test_every_number_of_the_page_stands_once() -> None:
    # squares: no number is the mean of two others
    numbered = distinct(result(facts=facts()), (number**2 for number in itertools.count(1)))
    assert assert_once(numbered, robustness_html(numbered, command="", picture=b"")) > 60
