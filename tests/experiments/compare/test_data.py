from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from movl_monai.data import Datalist
from movl_monai.errors import DataError
from movl_monai.experiments.compare import TrainingData, choose_images
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.data import draw_lists, fingerprint, split_lists


def _item(number: int, *, label: int | None = 0, patient: str | None = None, **facts: Any) -> dict[str, Any]:
    item = {"image": f"/data/{number:03d}.png", "label": label, "patient_id": patient, "id": f"{number:012x}"}
    return {**item, "split": "train", "domain": "id", **facts}


def test_a_choice_has_equally_many_of_each_class_until_one_has_no_more() -> None:
    items = [_item(n, label=0 if n < 30 else 1) for n in range(34)]
    assert Counter(item["label"] for item in choose_images(items, 6)) == {0: 3, 1: 3}
    assert Counter(item["label"] for item in choose_images(items, 12)) == {0: 8, 1: 4}


def test_a_choice_takes_every_patient_once_before_any_twice() -> None:
    items = [_item(n, patient=f"p{n // 5}") for n in range(30)]
    assert len({item["patient_id"] for item in choose_images(items, 6)}) == 6
    assert set(Counter(item["patient_id"] for item in choose_images(items, 12)).values()) == {2}


def test_a_choice_depends_on_the_seed_and_not_on_the_order() -> None:
    items = [_item(n, label=n % 2) for n in range(40)]
    shuffled = random.Random(1).sample(items, len(items))
    names = {item["id"] for item in choose_images(items, 10, seed=3)}
    assert {item["id"] for item in choose_images(shuffled, 10, seed=3)} == names
    assert {item["id"] for item in choose_images(items, 10, seed=4)} != names


def test_a_choice_of_more_than_there_are_is_all_and_of_too_few_an_error() -> None:
    items = [_item(n, label=n % 3) for n in range(6)]
    assert choose_images(items, 99) == items
    with pytest.raises(DataError, match="3 classes leaves one without"):
        choose_images(items, 2)


def _many(folder: Path = Path("/data")) -> Datalist:
    splits = ["train"] * 30 + ["val"] * 12 + ["test"] * 6
    items = [
        _item(n, label=n % 3, split=split, patient=f"p{n // 2}", image=str(folder / f"{n}.png"))
        for n, split in enumerate(splits)
    ]
    return Datalist(items, class_names=["a", "b", "c"])


def test_draws_differ_hold_every_class_and_share_the_test_images(tmp_path: Path) -> None:
    for number in range(48):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    lists = draw_lists(_many(tmp_path), draws=3, seed=5, train_images=6, val_images=3)
    chosen = [frozenset(item["id"] for item in part.training) for part in lists]
    assert len(set(chosen)) == 3
    for part in lists:
        for split, count in (("train", 2), ("val", 1)):
            assert Counter(item["label"] for item in part.training.select(split)) == dict.fromkeys(range(3), count)
    assert len({part.fingerprints["test"] for part in lists}) == 1
    assert len({part.fingerprints["training"] for part in lists}) == 3
    alone = split_lists(_many(tmp_path), seed=6, train_images=6, val_images=3)
    assert alone.fingerprints == lists[1].fingerprints, "a draw does not depend on how many there are"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "--draws 2 draws training images anew, but all 30.*--train_images K with K below 30"),
        ({"train_images": 40, "val_images": 3}, "all 30 of them are used"),
        ({"train_images": 2}, "--train_images 2: Choosing 2 images of 3 classes leaves one without; choose 3 or more"),
        ({"train_images": 6, "val_images": 1}, "--val_images 1: Choosing 1 images of 3 classes"),
    ],
)
def test_draws_that_cannot_be_are_one_clear_error(choices: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        draw_lists(_many(), draws=2, **choices)


def _datalist(*splits: str, **facts: Any) -> Datalist:
    items = [_item(n, label=n % 2, split=split, **facts) for n, split in enumerate(splits)]
    return Datalist(items, class_names=["a", "b"])


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "train", "test", "test"), "A val split is needed"),
        (("val", "val", "test", "test"), "A train split is needed"),
        (("train", "train", "val", "val"), "Labelled test images"),
    ],
)
def test_a_missing_split_is_one_clear_error(splits: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_lists(_datalist(*splits))


def test_calibration_and_far_images_cost_a_comparison_nothing() -> None:
    splits = ["train", "train", "val", "val", "calibration", "calibration", "test", "test"]
    items = [_item(n, label=n % 2, split=split) for n, split in enumerate(splits)]
    far = [_item(n, label=None, split="test", domain="colon") for n in range(10, 14)]
    data = split_lists(Datalist([*items, *far], class_names=["a", "b"], far_domains=["colon"]))
    assert [item["split"] for item in data.training] == ["train", "train", "val", "val"]
    assert [(item["split"], item["domain"]) for item in data.test] == [("test", "id"), ("test", "id")]


def test_what_is_learned_from_holds_no_test_image_and_no_other_domain() -> None:
    items = [_item(n, label=n % 2, split=split) for n, split in enumerate(["train", "train", "val", "val", "test"])]
    outside = [_item(n, label=n % 2, split="train", domain="elsewhere") for n in range(10, 14)]
    data = split_lists(Datalist([*items, *outside], class_names=["a", "b"]))
    assert {(item["split"], item["domain"]) for item in data.training} == {("train", "id"), ("val", "id")}
    assert {item["domain"] for item in data.test} == {"id", "elsewhere"}


def test_training_data_refuses_test_images(finished: tuple[Comparison, Outcome]) -> None:
    comparison, _ = finished
    images = comparison.training_data.images
    with pytest.raises(DataError, match="train and val images only"):
        TrainingData(comparison.data.test, images)
    with pytest.raises(DataError, match="train and val images only"):
        TrainingData(comparison.data.training, comparison.test_data.images)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    for number in range(2):
        (first / f"{number}.png").write_bytes(bytes([number]))
    shutil.copytree(first, second)

    def digest(folder: Path, **facts: Any) -> str:
        items = [_item(n, image=str(folder / f"{n}.png"), **facts) for n in range(2)]
        return fingerprint(Datalist(items, class_names=["a", "b"]))

    original = digest(first)
    assert digest(second) == original
    assert digest(first, label=1) != original
    assert digest(first, split="val") != original
    assert digest(first, patient_id="one") != original
    (second / "1.png").write_bytes(b"changed")
    assert digest(second) != original
