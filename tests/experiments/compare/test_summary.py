"""Summary of several comparisons, from their tables."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from movl_monai.cli import main
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.summary import Summary, read_comparison, summary_markdown

COLUMNS = (
    "domain,arm,{m}_mean,{m}_sd,auroc_mean,{m}_minus_lp,{m}_minus_lp_low,{m}_minus_lp_high,auroc_minus_lp,"
    "auroc_minus_lp_low,auroc_minus_lp_high,trained_parameters,checkpoint_bytes,train_seconds_mean,peak_memory"
)
COST = "10,100,3,5e6"


def _table(folder: Path, *rows: str, metric: str = "balanced_accuracy") -> Path:
    folder.mkdir()
    lines = [COLUMNS.format(m=metric), *(f"{row},{COST}" for row in rows)]
    (folder / "comparison.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        _table(
            tmp_path / "a",
            "id,lp,0.8,0.01,0.9,,,,,,",
            "id,x,0.9,0.01,0.9,0.1,0.02,0.18,0,0,0",
            "far,lp,0.5,,0.70,,,,,,",
            "far,x,0.9,,0.65,0.4,0.3,0.5,-0.05,-0.09,-0.01",
        ),
        _table(tmp_path / "b", "id,lp,0.3,,0.6,,,,,,", "id,x,0.3,,0.6,0.0,-0.04,0.04,0,0,0", metric="quadratic_kappa"),
    ]


def test_the_mean_over_sets_has_the_interval_of_independent_means(folders: list[Path]) -> None:
    cells = [cell for folder in folders for cell in read_comparison(folder)]
    lp, x = Summary([cell for cell in cells if cell.domain == "id"]).rows(["lp"])
    half = math.hypot(0.08, 0.04) / 2
    assert x["mean difference to lp [95 %]"] == f"+0.050 [{0.05 - half:.3f}, {0.05 + half:.3f}]"
    assert x["better / worse than lp (clear)"] == "1 / 0 (1 / 0)"
    assert (lp["average rank"], x["average rank"]) == ("1.8", "1.2")  # first and second, then a tie


def test_each_domain_has_its_main_figure(folders: list[Path]) -> None:
    page = summary_markdown([cell for folder in folders for cell in read_comparison(folder)], references=["lp", "ft"])
    assert "Cells: a (balanced accuracy); b (quadratic kappa)." in page
    assert "Cells: a far (macro AUROC)." in page
    assert "-0.050 [-0.090, -0.010]" in page
    assert "0 / 1 (0 / 1)" in page
    assert "ft" not in page


def test_the_command_writes_the_page_and_refuses_other_options(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["compare", "--summary", *map(str, folders), "--output_dir", str(tmp_path / "out")]
    assert main(given) == 0
    assert (tmp_path / "out/summary.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert main([*given, "--epochs", "3"]) == 2
    assert "--summary takes --output_dir alone" in capsys.readouterr().err
    assert main(["compare", "--output_dir", str(tmp_path)]) == 2
    assert "--bundle is missing" in capsys.readouterr().err


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Expected the --output_dir of a finished"):
        read_comparison(tmp_path)
    (tmp_path / "comparison.csv").write_text("domain,arm\nid,lp\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="KeyError"):
        read_comparison(tmp_path)
