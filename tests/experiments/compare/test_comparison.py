"""A comparison as a whole: images that trials see, resuming, and changed settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from movl_monai.engines import open_run
from movl_monai.errors import ConfigError, DataError
from movl_monai.experiments.compare import Plan, TrainingData
from movl_monai.experiments.compare import comparison as comparison_module
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from tests.experiments.compare.conftest import make

Finished = tuple[Comparison, Outcome]


def _state(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = sorted(folder.glob("runs/*/*/result.json"))
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_every_arm_and_seed_has_a_result_with_every_domain(finished: Finished) -> None:
    comparison, outcome = finished
    assert [(result.arm, result.seed) for result in outcome.results] == [
        *(("linear_probe", 0), ("joint", 0), ("linear_probe", 1), ("joint", 1))
    ]
    assert all(result.figures.keys() == {"id", "scanner_b"} for result in outcome.results)
    assert len(list(comparison.folder.path.glob("runs/*/seed_*/evaluation/predictions.csv"))) == 4


def test_every_run_can_be_opened_again_with_the_values_that_were_found(finished: Finished) -> None:
    comparison, outcome = finished
    for result in outcome.results:
        run = open_run(comparison.folder.path / "runs" / result.arm / f"seed_{result.seed}")
        assert run.bundle_dir.name == "movl_classification"
        assert run.network().class_names == run.class_names == list(comparison.data.test.class_names)
        kept = {**run.record["training"], **run.record["settings"]}
        assert {name: kept.get(name) for name in result.values} == result.values
        assert not list(result.folder.glob("models/trust.pt")), "without train it would lack its detectors"


def test_every_searched_arm_had_the_same_budget_and_all_seeds_its_best_values(finished: Finished) -> None:
    _, outcome = finished
    assert {arm: len(trials) for arm, trials in outcome.trials.items()} == {"linear_probe": 0, "joint": 2}
    best = outcome.trials["joint"][outcome.best["joint"] or 0]
    assert all(result.values == best.values for result in outcome.results if result.arm == "joint")
    assert best.score == max(trial.score or 0 for trial in outcome.trials["joint"])


def test_the_exact_linear_probe_is_the_same_for_all_seeds(finished: Finished) -> None:
    _, outcome = finished
    first, second = (result for result in outcome.results if result.arm == "linear_probe")
    assert first.predictions.read_bytes() == second.predictions.read_bytes()


def test_trials_and_trainings_see_train_and_val_only_and_test_is_decoded_after_the_search(
    phantom: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = make(tmp_path, phantom, plan, seeds=(0,), budget=1)
    seen: list[set[str]] = []
    train = comparison_module.train_arm

    def watched(setup: Any, data: TrainingData, **options: Any) -> Any:
        seen.append({item["id"] for item in (*data.datalist, *data.images.data)})
        if "search" in options["folder"].parts:
            assert "test" not in vars(comparison.images)
        config = json.dumps(options, default=str) + str(dict(options["values"]))
        assert not any(item["image"] in config for item in comparison.data.test)
        return train(setup, data, **options)

    monkeypatch.setattr(comparison_module, "train_arm", watched)
    comparison.run()
    test_ids = {item["id"] for item in comparison.data.test}
    assert len(test_ids) == 12
    assert len(seen) == 3
    assert all(len(ids) == 18 and not ids & test_ids for ids in seen)


def test_a_finished_comparison_is_read_without_decoding_or_running_anything(
    finished: Finished, phantom: Path, plan: Plan
) -> None:
    comparison, outcome = finished
    before = _state(comparison.folder.path)
    again = make(comparison.folder.path, phantom, plan)
    assert again.run() == outcome
    assert _state(comparison.folder.path) == before
    assert not again.images._training
    assert "test" not in vars(again.images)


def test_a_killed_comparison_goes_on_and_leaves_finished_results_alone(
    finished: Finished, phantom: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {(result.arm, result.seed): result for result in finished[1].results}
    final, runs = comparison_module.final_run, []

    def killed(setup: Any, **options: Any) -> Any:
        runs.append((setup.name, options["seed"]))
        if runs == [("linear_probe", 0), ("joint", 0)]:
            raise KeyboardInterrupt
        return final(setup, **options)

    monkeypatch.setattr(comparison_module, "final_run", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, phantom, plan, seeds=(0,)).run()
    before = _state(tmp_path)
    assert list(before) == ["runs/linear_probe/seed_0/result.json"]
    outcome = make(tmp_path, phantom, plan, seeds=(0,)).run()
    assert runs == [("linear_probe", 0), ("joint", 0), ("joint", 0)]
    assert _state(tmp_path)["runs/linear_probe/seed_0/result.json"] == before["runs/linear_probe/seed_0/result.json"]
    for result in outcome.results:
        assert result.figures == whole[result.arm, result.seed].figures
        assert result.values == whole[result.arm, result.seed].values


def _copy(finished: Finished, folder: Path) -> Path:
    shutil.copytree(finished[0].folder.path, folder / "copy")
    return folder / "copy"


def test_a_result_whose_predictions_changed_is_made_again(
    finished: Finished, phantom: Path, plan: Plan, tmp_path: Path
) -> None:
    folder = _copy(finished, tmp_path)
    path = folder / "runs/joint/seed_1/evaluation/predictions.csv"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    before = _state(folder)
    make(folder, phantom, plan).run()
    assert path.read_bytes() == content
    changed = {name for name, state in _state(folder).items() if state[1] != before[name][1]}
    assert changed == {"runs/joint/seed_1/result.json"}


def test_more_arms_and_seeds_are_added_to_what_is_there(
    finished: Finished, phantom: Path, plan: Plan, tmp_path: Path
) -> None:
    folder = _copy(finished, tmp_path)
    before = _state(folder)
    outcome = make(folder, phantom, plan, arms=("linear_probe", "joint_lambda0"), seeds=(0, 2), budget=1).run()
    assert len(outcome.results) == 4
    assert {arm: len(trials) for arm, trials in outcome.trials.items()} == {"linear_probe": 0, "joint_lambda0": 1}
    assert before.items() <= _state(folder).items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"batch_size": 4}}, "batch_size: 8 there, 4 now"),
        ({"overrides": {"head_lr": 0.01}}, "head_lr: none there, 0.01 now"),
        ({"train_images": 8}, "train_images: none there, 8 now"),
        ({"seeds": (1, 2)}, "seed of the search: 0 there, 1 now"),
    ],
)
def test_the_folder_of_another_comparison_is_refused_with_what_differs(
    changes: Mapping[str, Any], message: str, finished: Finished, phantom: Path, plan: Plan
) -> None:
    folder = finished[0].folder.path
    before = _state(folder)
    with pytest.raises(ConfigError, match=message):
        make(folder, phantom, plan, **{**changes, "restart": ("joint",)})
    assert _state(folder) == before


def test_other_data_is_detected(finished: Finished, phantom: Path, plan: Plan, tmp_path: Path) -> None:
    shutil.copytree(phantom, tmp_path / "phantom")
    folder = finished[0].folder.path
    make(folder, tmp_path / "phantom", plan)  # the same data in another place is the same
    manifest = tmp_path / "phantom" / "manifest.csv"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    manifest.write_text("\n".join(line for line in lines if "scanner_b" not in line), encoding="utf-8")
    with pytest.raises(ConfigError, match="test data: "):
        make(folder, tmp_path / "phantom", plan)


def test_a_changed_arm_is_refused_until_it_is_restarted(
    finished: Finished, phantom: Path, plan: Plan, tmp_path: Path
) -> None:
    folder = _copy(finished, tmp_path)
    joint = plan.arms["joint"]
    changed = Plan(
        **{
            **vars(plan),
            "arms": {**plan.arms, "joint": type(joint)(**{**vars(joint), "overrides": {"head_lr": 0.01}, "space": {}})},
        }
    )
    with pytest.raises(ConfigError, match="arm 'joint' in another form.*--restart joint"):
        make(folder, phantom, changed)
    before = _state(folder)
    outcome = make(folder, phantom, changed, restart=("joint",), seeds=(0,)).run()
    assert outcome.results[1].values == {}
    after = _state(folder)
    assert after["runs/linear_probe/seed_0/result.json"] == before["runs/linear_probe/seed_0/result.json"]
    assert "runs/joint/seed_1/result.json" not in after


def test_an_arm_is_not_restarted_while_another_command_is_at_work(
    finished: Finished, phantom: Path, plan: Plan
) -> None:
    comparison, _ = finished
    before = _state(comparison.folder.path)
    with comparison.folder.at_work(), pytest.raises(ConfigError, match="Another comparison is running.*--restart"):
        make(comparison.folder.path, phantom, plan, restart=("joint",))
    assert _state(comparison.folder.path) == before


def test_fewer_images_are_the_same_for_all_runs_and_balanced(phantom: Path, plan: Plan, tmp_path: Path) -> None:
    comparison = make(tmp_path, phantom, plan, train_images=4, val_images=4, seeds=(0,), budget=0)
    outcome = comparison.run()
    sizes = comparison.data.sizes()
    assert sizes["train"]["classes"] == {"lesion": 2, "no_lesion": 2}
    assert sizes["val"]["images"] == 4
    assert all(asdict(result.training)["images"] == {"train": 4, "val": 4} for result in outcome.results)


def test_no_val_split_is_one_clear_error(phantom: Path, plan: Plan, tmp_path: Path) -> None:
    lines = (phantom / "manifest.csv").read_text(encoding="utf-8").splitlines()
    folder = tmp_path / "data"
    shutil.copytree(phantom, folder)
    (folder / "manifest.csv").write_text(
        "\n".join(line.replace(",val,", ",train,") for line in lines), encoding="utf-8"
    )
    with pytest.raises(DataError, match="A val split is needed"):
        make(tmp_path / "out", folder, plan, overrides={"split_fractions": None})
