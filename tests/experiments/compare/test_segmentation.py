"""Comparing arms that segment: the same machinery, judged by Dice per case."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.cli.compare import write_tables
from movl_monai.data import read_mask_datalist
from movl_monai.errors import DataError, MovlError
from movl_monai.experiments.compare import Plan, Result, Training, compare_results, read_plan
from movl_monai.experiments.compare.comparison import Comparison
from movl_monai.experiments.compare.data import fingerprint
from movl_monai.report.tasks import SEGMENTATION, task_in
from tests.evaluation.masks import write_images
from tests.tables import read_rows

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "dvpt_segmentation"
FAST: dict[str, Any] = {
    "image_size": 32,
    "epochs": 1,
    "warmup_epochs": 0,
    "batch_size": 4,
    "num_workers": 0,
    "device": "cpu",
    "decoder_width": 8,
    "mask_class_names": ["background", "a", "b"],
    "unet_features": [4, 4, 4, 4, 4, 4],
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(BUNDLE / "compare.json", bundle=BUNDLE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), splits=(("train", 6), ("val", 3), ("test", 5)))


def _make(plan: Plan, folder: Path, data: Path, **options: Any) -> Comparison:
    settings = {"arms": ("decoder_only", "unet"), "seeds": (0, 1), "budget": 0, "overrides": FAST, **options}
    return Comparison(plan, output_dir=folder, dataset_dir=str(data), **settings)


def test_arms_are_compared_by_dice_and_the_table_says_what_the_files_say(
    plan: Plan, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = _make(plan, tmp_path, data, train_images=4)
    outcome = comparison.run()
    write_tables(comparison, outcome, command="movl-monai compare X")
    page = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    table = {row["arm"]: row for row in read_rows(tmp_path / "comparison.csv")}
    assert list(table) == ["decoder_only", "unet"]
    for arm, row in table.items():
        found = []
        for seed in (0, 1):
            path = tmp_path / "runs" / arm / f"seed_{seed}" / "evaluation" / "cases.csv"
            with path.open(newline="", encoding="utf-8") as stream:
                found.append(np.mean([float(case["dice"]) for case in csv.DictReader(stream)]))
        assert float(row["dice_mean"]) == pytest.approx(np.mean(found))
        assert int(row["images"]) == 5
    for words in ("Dice against decoder_only", "5 cases", "train: 4 images (with a mask 4", "val_mean_case_dice"):
        assert words in page
    assert "accuracy" not in page
    assert str(data) not in page
    again = _make(plan, tmp_path, data, train_images=4).run()
    assert [result.predictions_sha256 for result in again.results] == [r.predictions_sha256 for r in outcome.results]
    assert "done before" in capsys.readouterr().err


def test_every_arm_of_the_plan_can_be_set_up_on_a_transformer(plan: Plan, data: Path, tmp_path: Path) -> None:
    vit = {
        "_target_": "movl_monai.backbones.TimmBackbone",
        "name": "test_vit",
        "weights": None,
        "image_size": "@image_size",
        "frozen": "@backbone_frozen",
    }
    arms = tuple(name for name in plan.arms if name != "unet")
    shared = {name: value for name, value in FAST.items() if name != "unet_features"}
    comparison = _make(plan, tmp_path, data, arms=arms, overrides={**shared, "backbone": vit, "num_prompts": 3})
    assert [setup.name for setup in comparison.setups] == list(arms)
    assert plan.references == ("decoder_only", "unet")


def test_a_changed_mask_is_another_data_set(data: Path, tmp_path: Path) -> None:
    copy = write_images(tmp_path / "copy", splits=(("train", 6), ("val", 3), ("test", 5)))
    names = {"class_names": ["background", "a", "b"]}
    before = fingerprint(read_mask_datalist(copy, **names))  # type: ignore[arg-type]
    assert before == fingerprint(read_mask_datalist(data, **names))  # type: ignore[arg-type]
    (copy / "train/masks/0.png").write_bytes((copy / "train/masks/1.png").read_bytes())
    assert fingerprint(read_mask_datalist(copy, **names)) != before  # type: ignore[arg-type]


def test_fractions_of_labels_are_refused(plan: Plan, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--train_images instead"):
        _make(plan, tmp_path, data, train_fraction=0.5)


def _result(folder: Path, arm: str, dice: list[float], *, ids: list[str] | None = None) -> Result:
    path = folder / arm / "seed_0" / "evaluation"
    path.mkdir(parents=True)
    with (path / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "domain", "split", "patient", "dice", "iou", "hd95"])
        for number, value in enumerate(dice):
            name = ids[number] if ids else f"{number:012x}"
            writer.writerow([name, "id" if number < 8 else "far", "test", f"p{number // 2}", value, value / 2, ""])
    facts = {"values": {}, "figures": {}, "versions": {}, "predictions_sha256": ""}
    return Result(settings="", arm=arm, seed=0, training=Training(settings=""), folder=path.parent, **facts)


def test_differences_are_paired_by_case(tmp_path: Path) -> None:
    base = np.linspace(0.2, 0.9, 12)
    results = [_result(tmp_path, "plain", base.tolist()), _result(tmp_path, "better", (base + 0.05).tolist())]
    entries = compare_results(results, references=["plain"], rounds=200)
    assert [(entry.domain, entry.arm) for entry in entries] == [
        ("id", "plain"),
        ("id", "better"),
        ("far", "plain"),
        ("far", "better"),
    ]
    better = entries[1]
    assert (better.shown, better.unit) == (SEGMENTATION.figures, "cases")
    assert (better.images, better.patients) == (8, 4)
    assert better.mean("dice") == pytest.approx(base[:8].mean() + 0.05)
    change = better.differences["plain"]["dice"]
    # a hard case is hard for both, so a constant difference has no spread
    assert change.value == pytest.approx(0.05)
    assert change.interval == pytest.approx((0.05, 0.05))
    assert better.mean("hd95") is None
    assert better.intervals["dice"][1] - better.intervals["dice"][0] > 0.05  # type: ignore[index]


def test_other_cases_and_damaged_files_are_refused(tmp_path: Path) -> None:
    results = [
        _result(tmp_path, "a", [0.5] * 4),
        _result(tmp_path, "b", [0.5] * 4, ids=[f"{k:012x}" for k in range(1, 5)]),
    ]
    with pytest.raises(MovlError, match="different images"):
        compare_results(results, references=["a"], rounds=10)
    with pytest.raises(MovlError, match="neither predictions.csv nor cases.csv"):
        task_in(tmp_path)
    (tmp_path / "cases.csv").write_text("case,domain\n1,id\n")
    with pytest.raises(MovlError, match="cannot be read as cases"):
        SEGMENTATION.judged(tmp_path, id_domain="id", figures=SEGMENTATION.figures)


def test_the_arms_file_of_the_bundle_is_json_with_a_line_on_every_arm() -> None:
    content = json.loads((BUNDLE / "compare.json").read_text(encoding="utf-8"))
    assert all(arm["about"] for arm in content["arms"].values())
