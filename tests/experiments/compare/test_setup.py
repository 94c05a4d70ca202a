from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare import Plan, read_plan
from movl_monai.experiments.compare.setup import Setup, set_up
from tests.experiments.compare.conftest import BUNDLE, FAST


def _set_up(plan: Plan, *names: str, **overrides: Any) -> Setup:
    return set_up(plan, plan.select(names), {**FAST, **overrides})


def _plan(folder: Path, **arm: Any) -> Plan:
    path = folder / "arms.json"
    path.write_text(json.dumps({"arms": {"own": arm}}), encoding="utf-8")
    return read_plan(path, bundle=BUNDLE)


def test_every_shipped_arm_can_be_set_up_at_every_usual_image_size(plan: Plan) -> None:
    of_units = read_plan(BUNDLE / "compare.json", bundle=BUNDLE, overlays=["unit_patient.json"])
    for size in (128, 224):
        settings = {"image_size": size, "label_order": "ordinal"}
        of_images = plan.select(plan.suitable(settings))
        arms = [
            *set_up(plan, of_images, settings).arms,
            *set_up(of_units, of_units.select(of_units.suitable({})), {}).arms,
        ]
        assert {setup.name for setup in arms} == {*plan.arms}
        assert all(setup.defaults.keys() == setup.space.keys() for setup in arms)
        widths = {setup.defaults["prompt_width"] for setup in arms if "prompt_width" in setup.space}
        assert widths == {round(0.13 * size)}


@pytest.mark.parametrize("bundle", ["movl_classification", "dvpt_classification", "dvpt_segmentation"])
def test_every_arm_accepts_every_backbone_for_all_arms(bundle: str) -> None:
    folder = BUNDLE.parent / bundle
    overlays = sorted(path.name for path in (folder / "configs").glob("backbone_*.json"))
    for overlay in overlays:
        plan = read_plan(folder / "compare.json", bundle=folder, overlays=[overlay])
        arms = plan.select(plan.suitable({}))
        assert [arm.name for arm in set_up(plan, arms, {"image_size": 224}).arms] == [arm.name for arm in arms]


def test_an_overlay_for_all_arms_that_none_reads_is_refused() -> None:
    overlays = ["backbone_vit_small.json", "model_unet.json"]
    folder = BUNDLE.parent / "dvpt_segmentation"
    plan = read_plan(folder / "compare.json", bundle=folder, overlays=overlays)
    with pytest.raises(ConfigError, match="backbone_vit_small.json changes nothing"):
        set_up(plan, [plan.arms["decoder_only"]], {})


def test_an_arm_keeps_what_defines_it_and_takes_the_rest_from_the_command_line(plan: Plan) -> None:
    without, with_term = _set_up(plan, "joint_lambda0", "joint", discrepancy_weight=2.0).arms
    assert without.train["discrepancy_weight"] == 0
    assert with_term.train["discrepancy_weight"] == 2.0


def test_what_the_command_line_sets_is_not_searched(plan: Plan) -> None:
    (setup,) = _set_up(plan, "joint", prompt_lr=0.5).arms
    assert "prompt_lr" not in setup.space
    assert "head_lr" in setup.space
    assert setup.train["prompt_lr"] == 0.5


def test_an_id_of_some_arms_is_set_in_those(plan: Plan) -> None:
    probe, finetune = _set_up(plan, "linear_probe", "full_finetune", layer_decay=0.9).arms
    assert finetune.train["layer_decay"] == 0.9
    assert "layer_decay" not in probe.train


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"seed": 3}, "is set by the comparison itself"),
        ({"checkpoint": "x"}, "is set by the comparison itself"),
    ],
)
def test_unknown_and_reserved_ids_are_refused(overrides: dict[str, Any], message: str, plan: Plan) -> None:
    with pytest.raises(ConfigError, match=message):
        _set_up(plan, "joint", **overrides)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"overrides": {"prompt_wide": 3}}, "did you mean 'prompt_width'"),
        ({"search": {"prompt_lr": {"log": [0.1, 1.0]}}}, "not in its range"),
        ({"search": {"prompt#nothing": {"log": [0.1, 1.0]}}}, "no value of its own for 'prompt#nothing'"),
        ({"overrides": {"image_size": 48}}, "changes image_size, which the images are made from"),
        ({"overrides": {"ct_windows": ["lungs"]}}, "changes ct_windows"),
        ({"search": {"resize_mode": {"choice": ["stretch", "pad"]}}}, "changes resize_mode"),
        (
            {"overlays": ["configs/strategy_linear_probe.json"], "search": {"prompt_lr": {"log": [1e-3, 1e-1]}}},
            "nothing in its configuration reads",
        ),
    ],
)
def test_an_arm_that_cannot_work_is_refused_before_anything_runs(
    arm: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        _set_up(_plan(tmp_path, **arm), "own")


def test_the_digest_follows_the_settings_and_neither_folders_nor_workers(plan: Plan) -> None:
    def digest(**overrides: Any) -> str:
        return _set_up(plan, "joint", **overrides).arms[0].digest

    original = digest()
    assert digest(num_workers=3, cache_dir="/elsewhere") == original
    assert digest(epochs=3) != original
    assert digest(prompt_lr=0.002) != original
    assert _set_up(plan, "joint_lambda0").arms[0].digest != original


def test_a_config_file_edited_later_changes_nothing_in_a_comparison(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    plan = read_plan(bundle / "compare.json", bundle=bundle)
    (setup,) = _set_up(plan, "joint").arms
    before = setup.digest
    path = bundle / "configs" / "train.json"
    path.write_text(path.read_text().replace('"batch_size": 16', '"batch_size": 4'), encoding="utf-8")
    assert setup.train["batch_size"] == FAST["batch_size"]
    path.write_text(path.read_text().replace('"class_weights": null', '"class_weights": "balanced"'), encoding="utf-8")
    assert _set_up(plan, "joint").arms[0].digest != before
