"""Draws of the training images, and several commands on one folder."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from movl_monai.cli import main
from movl_monai.experiments.compare import Plan, Result, compare_results, work
from movl_monai.experiments.compare import comparison as comparison_module
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.setup import ArmSetup
from movl_monai.experiments.compare.work import RunTask
from tests.experiments.compare.conftest import BUNDLE, FAST, make

Finished = tuple[Comparison, Outcome]
PROBES = ("linear_probe",)
CHOICE = {"train_images": 4, "val_images": 4, "budget": 0}


def _words(phantom: Path, output: Path, *more: str) -> list[str]:
    settings = [word for name, value in FAST.items() for word in (f"--{name}", str(value))]
    folders = ["--dataset_dir", str(phantom), "--output_dir", str(output)]
    return ["compare", "--bundle", str(BUNDLE), *folders, *settings, *more]


@pytest.fixture(scope="module")
def drawn(phantom: Path, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The linear probe on one draw, and then on two, in one folder."""
    folder = tmp_path_factory.mktemp("drawn")
    make(folder, phantom, plan, arms=PROBES, seeds=(0,), **CHOICE).run()
    comparison = make(folder, phantom, plan, arms=PROBES, seeds=(0,), draws=2, **CHOICE)
    return comparison, comparison.run()


def test_draws_are_added_to_what_is_there_and_have_their_own_images(
    drawn: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison, outcome = drawn
    assert [(result.seed, result.draw) for result in outcome.results] == [(0, 0), (0, 1)]
    folder = comparison.folder.path / "runs/linear_probe"
    assert sorted(path.name for path in folder.iterdir()) == ["draw_1_seed_0", "seed_0"]
    first, second = outcome.results
    assert first.training.settings != second.training.settings
    assert comparison.run() == outcome
    assert capsys.readouterr().err.count("done before") == 2
    entries = compare_results(outcome.results, references=[], rounds=20)
    assert [entry.draws for entry in entries] == [(0, 1), (0, 1)]
    assert all(entry.mean("accuracy_moved") is not None for entry in entries)


def test_a_result_of_an_earlier_version_is_read(
    drawn: Finished, phantom: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(drawn[0].folder.path, tmp_path / "copy")
    path = tmp_path / "copy/runs/linear_probe/seed_0/result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["draw"]
    path.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(comparison_module, "final_run", lambda *_, **__: pytest.fail("it ran again"))
    outcome = make(tmp_path / "copy", phantom, plan, arms=PROBES, seeds=(0,), **CHOICE).run()
    assert [result.draw for result in outcome.results] == [0]


def test_two_commands_share_the_work_and_both_have_all_of_it(
    phantom: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    final, runs, current = comparison_module.final_run, [], ["first"]

    def watched(setup: ArmSetup, **options: Any) -> Result:
        runs.append((current[0], options["seed"]))
        return final(setup, **options)

    monkeypatch.setattr(comparison_module, "final_run", watched)
    first, second = (make(tmp_path, phantom, plan, arms=PROBES, seeds=(0, 1), budget=0) for _ in range(2))
    held = contextlib.ExitStack()

    def wait(_: float) -> None:
        """The other command finishes its claimed run while this one waits."""
        held.close()
        current[0] = "second"
        second.run_task(RunTask("linear_probe", 0))

    monkeypatch.setattr(work, "time", SimpleNamespace(sleep=wait))
    assert held.enter_context(second.folder.piece("run-linear_probe-seed_0"))
    outcome = first.run()
    assert runs == [("first", 1), ("second", 0)], "no run was done twice"
    assert second.run() == outcome
    assert "waiting for another command that is at work on linear_probe:0:0" in capsys.readouterr().err


def test_a_task_is_one_run_with_the_search_of_its_arm(phantom: Path, plan: Plan, tmp_path: Path) -> None:
    comparison = make(tmp_path, phantom, plan, budget=1)
    assert not comparison.is_searched("joint")
    comparison.run_task(RunTask("joint", 1))
    assert comparison.is_searched("joint")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("runs/*/*/result.json")] == [
        "runs/joint/seed_1/result.json"
    ]


def test_jobs_run_what_is_not_done_in_processes_of_its_own_and_make_the_table(
    phantom: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = _words(phantom, tmp_path, "--arms", "lp", "--seeds", "0,1")
    assert main([*words, "--task", "lp:0"]) == 0
    said = capfd.readouterr()
    assert not said.out
    assert [path.parent.name for path in tmp_path.glob("runs/*/*/result.json")] == ["seed_0"]
    assert main([*words, "--jobs", "2"]) == 0
    said = capfd.readouterr()
    assert [line for line in said.err.splitlines() if "[2/2]" in line and "done before" not in line]
    for title in ("balanced accuracy, moved threshold", "peak memory MB", "lp is the arm linear_probe"):
        assert title in said.out + said.err
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "joint:7"], "--task joint:7 is not of this comparison; expected one of --arms linear_probe,joint"),
        (["--task", "joint:0:3"], "a draw below --draws 1, such as linear_probe:0:0"),
        (["--task", "vp_only"], "--task vp_only is not of this comparison"),
        (["--jobs", "0"], "--jobs must be 1 or more, got 0"),
        (["--draws", "0"], "--draws must be 1 or more, got 0"),
        (["--draws", "2"], "but all 12 of them are used"),
        (["--draws", "2", "--train_images", "1"], "--train_images 1: Choosing 1 images of 2 classes"),
        (["--jobs", "2", "--label_fractions", "0.5,1.0"], "--label_fractions takes neither --jobs nor --task"),
    ],
)
def test_bad_input_is_one_paragraph(
    more: list[str], message: str, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(phantom, tmp_path, "--arms", "joint", *more)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("runs/*"))


def test_a_failing_piece_ends_the_jobs_with_its_name(
    phantom: Path, plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from movl_monai.errors import ConfigError
    from movl_monai.experiments.compare.jobs import run_jobs

    comparison = make(tmp_path, phantom, plan, arms=PROBES, seeds=(0, 1), budget=0)
    with pytest.raises(ConfigError, match="failed.*linear_probe:0:0.*same command again"):
        run_jobs(comparison, 1, ["--nothing"])
    assert "--bundle" in capfd.readouterr().err
    assert comparison.tasks()[0] == RunTask("linear_probe", 0, 0)
