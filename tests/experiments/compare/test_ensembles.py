"""An arm of a comparison that joins others: its computation, its place in the order, its cost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from movl_monai.cli.compare import write_tables
from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, StoredOutputs, read_outputs
from movl_monai.experiments.compare import Plan
from movl_monai.experiments.compare import comparison as comparison_module
from movl_monai.experiments.compare.arms import Arm
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.runs import mean_outputs
from movl_monai.experiments.compare.training import read_record
from movl_monai.experiments.compare.work import RunTask
from movl_monai.metrics.classification_metrics import softmax
from tests.experiments.compare.conftest import make

MEMBERS = ("linear_probe", "joint")


@pytest.fixture
def joining(plan: Plan) -> Plan:
    """The arms of the bundle, and one that joins those of the finished comparison."""
    both = Arm(name="both", about="of two", overlays=(), overrides={}, space={}, members=MEMBERS)
    return replace(plan, arms={"both": both, **plan.arms})


@pytest.fixture
def begun(finished: tuple[Comparison, Outcome], tmp_path: Path) -> Path:
    """The folder of the finished comparison, for runs that continue it."""
    return Path(shutil.copytree(finished[0].folder.path, tmp_path / "begun"))


def _outputs(folder: Path, arm: str, seed: int = 0) -> StoredOutputs:
    return read_outputs(folder / "runs" / arm / f"seed_{seed}")


def test_an_ensemble_is_the_mean_of_calibrated_probabilities_and_costs_its_members(
    begun: Path, phantom: Path, joining: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison_module, "train_arm", None)  # the members are done, and nothing else is trained
    comparison = make(begun, phantom, joining, arms=("both",))
    outcome = comparison.run()
    assert "joint joins as a member of an ensemble" in capsys.readouterr().err
    assert [(one.arm, one.seed) for one in outcome.results] == [
        (arm, seed) for seed in (0, 1) for arm in ("linear_probe", "joint", "both")
    ]
    temperatures = [
        read_record(begun / "runs" / arm / "seed_1/evaluation/report.json")["calibration"]["temperature"]
        for arm in MEMBERS
    ]
    parts = [_outputs(begun, arm, 1) for arm in MEMBERS]
    expected = np.mean(
        [softmax(part.predictions.logits / value) for part, value in zip(parts, temperatures, strict=True)], axis=0
    )
    found = _outputs(begun, "both", 1)
    np.testing.assert_allclose(softmax(found.predictions.logits), expected, atol=1e-12)
    assert found.predictions.ids == parts[0].predictions.ids
    assert found.predictions.patient_ids == parts[0].predictions.patient_ids
    for name in ("train_seconds", "checkpoint_bytes", "trainable_parameters"):
        costs = {one.arm: getattr(one.training, name) for one in outcome.results if one.seed == 1}
        assert costs["both"] == pytest.approx(costs["linear_probe"] + costs["joint"])
    ours = outcome.results[-1]
    assert ours.figures.keys() == {"id", "scanner_b"}
    assert ours.training.score == read_record(ours.folder / "evaluation/report.json")["val"]["balanced_accuracy"]
    write_tables(comparison, outcome, command="compare")
    page = (begun / "comparison.md").read_text()
    assert "- both: mean of the calibrated probabilities of linear_probe, joint" in page
    assert "| those of its members | nothing searched |" in page
    assert "- joint joined as a member of an ensemble" in page


def test_an_ensemble_that_is_done_is_not_made_again_unless_a_member_is_another(
    begun: Path, phantom: Path, joining: Plan
) -> None:
    first = make(begun, phantom, joining, arms=("both",), seeds=(0,))
    made = first.run()
    assert first.is_done(RunTask("both", 0))
    path = begun / "runs/both/seed_0/result.json"
    before = path.stat().st_mtime_ns
    assert make(begun, phantom, joining, arms=("both",), seeds=(0,)).run() == made
    assert path.stat().st_mtime_ns == before
    shutil.rmtree(begun / "runs/joint/seed_0")
    again = make(begun, phantom, joining, arms=("both",), seeds=(0,))
    assert not again.is_done(RunTask("both", 0))
    again.run_task(RunTask("both", 0))  # with the run of its member
    assert (begun / "runs/joint/seed_0/result.json").is_file()
    assert again.is_done(RunTask("both", 0))


def test_members_with_other_images_or_without_a_temperature_are_refused(
    begun: Path, phantom: Path, joining: Plan
) -> None:
    one, other = (
        StoredOutputs(predictions=Predictions(ids=[name], logits=[[1.0, 0.0]]), class_names=["a", "b"])
        for name in ("0a", "0b")
    )
    with pytest.raises(MovlError, match="other images"):
        mean_outputs([one, other], [1.0, 1.0])
    report = begun / "runs/joint/seed_0/evaluation/report.json"
    report.write_text("{}")
    with pytest.raises(MovlError, match="results of joint are not calibrated.*--restart joint"):
        make(begun, phantom, joining, arms=("both",), seeds=(0,)).run()
