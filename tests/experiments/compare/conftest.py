"""A tiny backbone, and one finished comparison that the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from movl_monai.experiments.compare import Plan, read_plan
from movl_monai.experiments.compare.comparison import Comparison, Outcome

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "movl_classification"
BACKBONE = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_efficientnet",
    "weights": None,
    "image_size": "@image_size",
}
FAST: dict[str, Any] = {
    "image_size": 32,
    "epochs": 2,
    "batch_size": 8,
    "num_workers": 0,
    "device": "cpu",
    "backbone": BACKBONE,
}


def make(
    folder: Path,
    phantom: Path,
    plan: Plan,
    *,
    arms: tuple[str, ...] = ("linear_probe", "joint"),
    seeds: tuple[int, ...] = (0, 1),
    budget: int = 2,
    **options: Any,
) -> Comparison:
    """A comparison with settings that make it run in seconds; `options` override them."""
    overrides = {**FAST, **options.pop("overrides", {})}
    return Comparison(
        plan,
        arms=arms,
        seeds=seeds,
        output_dir=folder,
        dataset_dir=str(phantom),
        budget=budget,
        overrides=overrides,
        **options,
    )


@contextmanager
def _without_figures() -> Iterator[None]:
    """The picture in each run's report takes longer than the run; it has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("movl_monai.report.classification_task.draw_figure", lambda *_, **__: b"")
        yield


@pytest.fixture(autouse=True)
def _no_figure_per_run() -> Iterator[None]:
    # of each test: files of other packages may be between those of this one
    with _without_figures():
        yield


@pytest.fixture(scope="session")
def plan() -> Plan:
    return read_plan(BUNDLE / "compare.json", bundle=BUNDLE)


@pytest.fixture(scope="session")
def finished(phantom: Path, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Outcome]:
    """linear_probe and joint, seeds 0 and 1, two trials."""
    comparison = make(tmp_path_factory.mktemp("comparison"), phantom, plan)
    with _without_figures():
        return comparison, comparison.run()
