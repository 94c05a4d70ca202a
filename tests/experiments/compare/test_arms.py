"""."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare import Plan, read_plan
from movl_monai.experiments.compare.arms import Dimension, parse_space
from tests.experiments.compare.conftest import BUNDLE

ARMS = [
    *("linear_probe", "layer_probe", "ordinal_probe", "random_border", "vp_only", "lp_then_vp"),
    *("lp_then_joint", "movl_layers", "joint_lambda0", "joint", "query_head", "lp_ft", "full_finetune", "ensemble"),
]
OF_UNITS = ["unit_max", "unit_attention"]


def _write(folder: Path, **changes: Any) -> Path:
    content = {"arms": {"joint": {}}, **changes}
    path = folder / "arms.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_shipped_arms_are_all_methods_and_both_references(plan: Plan) -> None:
    assert list(plan.arms) == [*ARMS[:-1], *OF_UNITS, ARMS[-1]]
    assert plan.references == ("linear_probe", "full_finetune")
    assert all(arm.about for arm in plan.arms.values())


def test_every_shipped_arm_that_trains_is_searched_and_so_is_the_control(plan: Plan) -> None:
    unsearched = ["linear_probe", "layer_probe", "ordinal_probe", "unit_max", "ensemble"]
    assert [name for name, arm in plan.arms.items() if not arm.space] == unsearched


@pytest.mark.parametrize("bundle", ["movl_classification", "dvpt_classification"])
def test_arms_of_units_replace_those_that_train_before_the_pooling(bundle: str) -> None:
    folder = BUNDLE.parent / bundle
    plan = read_plan(folder / "compare.json", bundle=folder, overlays=["unit_study.json"])
    assert plan.suitable({}) == ["linear_probe", "layer_probe", *OF_UNITS]


def test_an_arm_for_grades_joins_where_classes_are_grades(plan: Plan) -> None:
    assert plan.suitable({}) == [name for name in ARMS if name != "ordinal_probe"]
    assert plan.suitable({"label_order": "ordinal"}) == ARMS
    overlaid = read_plan(BUNDLE / "compare.json", bundle=BUNDLE, overlays=["head_ordinal.json"])
    assert overlaid.suitable({}) == ARMS
    with pytest.raises(ConfigError, match="'ordinal_probe' needs `--label_order ordinal`"):
        plan.arms["ordinal_probe"].check_needs({"label_order": "nominal"})


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


@pytest.mark.parametrize(
    ("kind", "bounds", "value"),
    [
        ("log", (1e-3, 1e-1), 0.02),
        ("linear", (0.5, 1.0), 0.5),
        ("integer", (0, 9), 9),
        ("choice", ("kl", "mse"), "mse"),
        ("share_of_image", (0.03, 0.2), 17),
    ],
)
def test_a_value_survives_the_way_to_what_is_drawn_and_back(kind: Any, bounds: tuple[Any, ...], value: Any) -> None:
    part = Dimension(kind=kind, bounds=bounds)
    assert part.value(part.drawn(value, image_size=128), image_size=128) == value


@pytest.mark.parametrize("size", [32, 128, 224])
def test_a_share_of_the_image_is_a_valid_width_for_every_size(size: int) -> None:
    part = Dimension(kind="share_of_image", bounds=(0.03, 0.2))
    widths = [part.value(share, image_size=size) for share in (0.03, 0.1, 0.2)]
    assert all(1 <= width < size / 2 for width in widths)


@pytest.mark.parametrize(
    ("kind", "bounds", "value"),
    [("log", (1e-3, 1e-1), 0.2), ("choice", ("kl",), "mse"), ("share_of_image", (0.03, 0.2), 30)],
)
def test_a_value_outside_of_the_range_is_refused(kind: Any, bounds: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(ConfigError, match="outside of the search range"):
        Dimension(kind=kind, bounds=bounds).drawn(value, image_size=64)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"lr": [1e-3, 1e-1]}, "one entry such as"),
        ({"lr": {"normal": [0, 1]}}, "must be one of log"),
        ({"lr": {"log": [0, 1]}}, "above 0"),
        ({"lr": {"linear": [2, 1]}}, "low < high"),
        ({"lr": {"log": 3}}, "cannot be used"),
        ({"lr": {"choice": []}}, "one or more values"),
    ],
)
def test_a_bad_range_is_refused_with_the_name_of_its_id(definition: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_space(definition)
    assert "'lr'" in str(caught.value)


def test_a_share_needs_the_size_of_the_images() -> None:
    with pytest.raises(ConfigError, match="image_size"):
        Dimension(kind="share_of_image", bounds=(0.03, 0.2)).value(0.1)
