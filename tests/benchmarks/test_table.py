"""The table shows every comparison, and all other figures below it."""

from __future__ import annotations

from benchmarks import Timing, compare
from benchmarks.table import format_table


def test_a_comparison_is_a_row_and_other_figures_are_lines() -> None:
    figures = compare("x", ours=Timing((1.0, 3.0)), other=Timing((0.01, 0.02)), memory=(5.2, 7.8))
    text = format_table({**figures, "epochs": 33}, {"x": "<= 1"})
    assert "| x | 125.000 | <= 1 | 2 | 2.00 s (1.00 s, 50%) | 15.0 ms (10.0 ms, 33%) | 5 / 8 MB |" in text
    assert text.endswith("\n\n- epochs: 33")
    assert text.count("\n") == 4
