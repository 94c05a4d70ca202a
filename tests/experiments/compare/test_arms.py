from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare import Plan, read_plan
from tests.experiments.compare.conftest import BUNDLE

ARMS = [
    *("linear_probe", "layer_probe", "random_border", "vp_only", "lp_then_vp", "lp_then_joint", "movl_layers"),
    *("joint_lambda0", "joint", "query_head", "lp_ft", "full_finetune", "ensemble"),
]


def _write(folder: Path, **changes: Any) -> Path:
    content = {"arms": {"joint": {}}, **changes}
    path = folder / "arms.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_shipped_arms_are_all_methods_and_both_references(plan: Plan) -> None:
    assert list(plan.arms) == ARMS
    assert plan.references == ("linear_probe", "full_finetune")
    assert all(arm.about for arm in plan.arms.values())


def test_every_shipped_arm_that_trains_is_searched_and_so_is_the_control(plan: Plan) -> None:
    assert [name for name, arm in plan.arms.items() if not arm.space] == ["linear_probe", "layer_probe", "ensemble"]


def test_arms_come_in_the_order_asked_for_and_once(plan: Plan) -> None:
    assert [arm.name for arm in plan.select(["joint", "linear_probe", "joint"])] == ["joint", "linear_probe"]


@pytest.mark.parametrize(
    ("bundle", "movl"), [("movl_classification", "joint"), ("dvpt_classification", "lp_then_joint")]
)
def test_the_usual_names_of_the_arms_are_accepted(bundle: str, movl: str) -> None:
    folder = BUNDLE.parent / bundle
    plan = read_plan(folder / "compare.json", bundle=folder)
    assert [arm.name for arm in plan.select(["movl", "lp", movl])] == [movl, "linear_probe"]
    with pytest.raises(ConfigError, match=rf"did you mean 'movl'.*lp \(= linear_probe\), movl \(= {movl}\)"):
        plan.select(["mvl"])


def test_the_first_reference_joins_unless_it_is_there_by_any_name(plan: Plan) -> None:
    assert plan.joined(["joint"]) == ["linear_probe"]
    assert plan.joined(["joint", "lp"]) == plan.joined(["linear_probe"]) == []


def test_members_of_an_ensemble_join_unless_they_are_there(plan: Plan) -> None:
    assert plan.members(["ensemble"]) == ["layer_probe", "lp_then_joint"]
    assert plan.members(["ensemble", "lp_then_joint"]) == ["layer_probe"]
    assert plan.members(["joint", "layer_probe"]) == []


def test_an_unknown_arm_is_refused_with_the_nearest_name(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="did you mean 'full_finetune'"):
        plan.select(["linear_probe", "full_finetuning"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": {}}, "unknown entry 'arm'"),
        ({"arms": {}}, "No arm was named"),
        ({"arms": {"joint": {"overlay": []}}}, "did you mean 'overlays'"),
        ({"arms": {"joint": {"overlays": ["configs/nothing.json"]}}}, "does not exist"),
        ({"arms": {"a/b": {}}}, "letters, digits"),
        ({"arms": {"joint": {"search": {"prompt_lr": {"log": [1]}}}}}, "Arm 'joint'.*two numbers"),
        ({"references": ["lp"]}, "not an arm of the arms file"),
        ({"aliases": {"movl": "joints"}}, "alias 'movl'.*means 'joints', which is not an arm.*did you mean 'joint'"),
        ({"arms": {"joint": {}, "both": {"members": ["joint", "lp"]}}}, "member 'lp' of the arm 'both' is not an arm"),
        ({"arms": {"joint": {}, "both": {"members": ["joint"] * 2}}}, "needs two or more different members"),
        (
            {"arms": {"a": {}, "b": {}, "ab": {"members": ["a", "b"]}, "aba": {"members": ["ab", "a"]}}},
            "member 'ab' of the arm 'aba' is an ensemble itself",
        ),
        (
            {"arms": {"a": {}, "b": {}, "ab": {"members": ["a", "b"], "overrides": {"epochs": 1}}}},
            "'ab' has members, which are trained",
        ),
        ({"aliases": {"joint": "joint"}}, "alias 'joint' of the arms file is an arm itself"),
    ],
)
def test_a_bad_arms_file_is_one_clear_error(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_plan(_write(tmp_path, **changes), bundle=BUNDLE)


def test_a_missing_or_broken_arms_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no arms file"):
        read_plan(tmp_path / "compare.json", bundle=tmp_path)
    (tmp_path / "compare.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_plan(tmp_path / "compare.json", bundle=tmp_path)


def test_overlays_of_all_arms_are_files_or_names_in_the_bundle(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text("{}", encoding="utf-8")
    plan = read_plan(BUNDLE / "compare.json", bundle=BUNDLE, overlays=["backbone_resnet50_v1.json", own])
    assert [path.name for path in plan.train] == ["train.json", "backbone_resnet50_v1.json", "own.json"]
    as_in_arms_files = read_plan(
        BUNDLE / "compare.json", bundle=BUNDLE, overlays=["configs/backbone_resnet50_v1.json", own]
    )
    assert as_in_arms_files.arms == plan.arms
    with pytest.raises(ConfigError, match="no overlay backbone_resnet50_v2.json"):
        read_plan(BUNDLE / "compare.json", bundle=BUNDLE, overlays=["backbone_resnet50_v2.json"])
