from __future__ import annotations

from pathlib import Path

import pytest

from movl_monai.cli import main
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from tests.experiments.compare.conftest import BUNDLE, FAST
from tests.report.test_html import Page


def _words(phantom: Path, output: Path, *more: str) -> list[str]:
    settings = [word for name, value in FAST.items() for word in (f"--{name}", str(value))]
    folders = ["--dataset_dir", str(phantom), "--output_dir", str(output)]
    return ["compare", "--bundle", str(BUNDLE), *folders, *settings, *more]


def test_the_command_finds_what_is_done_and_writes_and_prints_the_table(
    finished: tuple[Comparison, Outcome], phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0].folder.path
    words = ["--arms", "linear_probe,joint", "--seeds", "0,1", "--search", "2"]
    assert main(_words(phantom, folder, *words)) == 0
    said = capsys.readouterr()
    page = (folder / "comparison.md").read_text(encoding="utf-8")
    assert page in said.out
    assert "--arms linear_probe,joint --seeds 0,1 --search 2" in page
    assert str(phantom) not in page
    assert "[4/4] joint, seed 1: done before" in said.err
    html = (folder / "comparison.html").read_text(encoding="utf-8")
    verdict = Page(html).text.partition("Arms")[0]
    assert "than linear_probe in distribution" in verdict or "Against linear_probe in distribution" in verdict
    assert html.count("<details>") == html.count("<summary>") == 4
    assert str(phantom) not in html
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "comparison.csv").read_text(encoding="utf-8").startswith("domain,arm,seeds")


def test_the_reference_joins_and_is_said(
    finished: tuple[Comparison, Outcome], phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _words(phantom, finished[0].folder.path, "--arms", "movl", "--seeds", "0,1", "--search", "2")
    assert main(words) == 0
    said = capsys.readouterr()
    assert "compare: movl is the arm joint\ncompare: linear_probe joins as the reference\n" in said.err
    assert said.err.count("done before") == 4
    assert "- linear_probe joined as the reference; `--arms` did not name it." in said.out
    assert "macro AUROC against linear_probe" in said.out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--arms", "linear_prob"], "did you mean 'linear_probe'"),
        (["--arms", "joint", "--epoch", "2"], "did you mean 'epochs'"),
        (["--arms", "joint", "--seeds", "a"], "whole numbers separated by commas"),
        (["--arms", "joint", "--search", "-1"], "budget >= 0"),
        (["--arms", "joint", "--arms_file", "nothing.json"], "There is no arms file"),
        (["--arms", "joint", "--restart", "jiont"], "did you mean 'joint'"),
        (["--arms", "joint", "--overlays", "backbone_resnet5.json"], "did you mean 'backbone_resnet50.json'"),
    ],
)
def test_bad_input_is_one_paragraph(
    more: list[str], message: str, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(phantom, tmp_path, *more)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
