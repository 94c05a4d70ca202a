"""The list itself: a sequence, selectable, readable, written without patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from movl_monai.data import Datalist, IdMap
from movl_monai.data.entries import SkippedFile
from movl_monai.errors import DataError


def item(number: int, **fields: Any) -> dict[str, Any]:
    base = {"image": f"/data/{number}.png", "label": number % 2, "patient_id": f"jane{number // 2}", "split": "train"}
    return base | {"domain": "id", "id": f"{number:012x}"} | fields


@pytest.fixture
def datalist() -> Datalist:
    items = [
        *(item(n) for n in range(4)),
        item(4, split="test"),
        item(5, split="test", domain="far", patient_id=None, frame=7),
    ]
    skipped = [
        SkippedFile(Path("/data/jane"), "jane", "hidden_file", "id"),
        SkippedFile(Path("/data/x"), "x", "empty_file", "id", "train"),
    ]
    return Datalist(items, class_names=["well", "ill"], skipped=skipped, id_map=IdMap(salt="0123456789abcdef"))


def test_it_is_a_sequence(datalist: Datalist) -> None:
    assert len(datalist) == 6
    assert datalist[-1]["domain"] == "far"
    assert [entry["id"] for entry in datalist[1:3]] == [f"{1:012x}", f"{2:012x}"]
    assert isinstance(datalist[1:3], Datalist)


@pytest.mark.parametrize(
    ("split", "domain", "count", "skipped"),
    [
        ("train", None, 4, 1),
        (["train", "test"], "id", 5, 1),
        (None, "far", 1, 0),
        ("val", None, 0, 0),
        (None, None, 6, 2),
        ("test", ["id", "far"], 2, 0),
    ],
)
def test_select_takes_splits_and_domains(datalist: Datalist, split: Any, domain: Any, count: int, skipped: int) -> None:
    chosen = datalist.select(split, domain)
    assert (len(chosen), len(chosen.skipped)) == (count, skipped)
    assert chosen.class_names == datalist.class_names
    assert chosen.id_map is datalist.id_map


def test_the_summary_counts_images_and_patients_and_names_nobody(datalist: Datalist) -> None:
    summary = datalist.summary()
    assert [line.split() for line in summary.splitlines()] == [
        ["domain", "split", "class", "images", "patients"],
        ["id", "train", "well", "2", "2"],
        ["id", "train", "ill", "2", "2"],
        ["id", "test", "well", "1", "1"],
        ["id", "test", "ill", "0", "0"],
        ["far", "test", "well", "0", "0"],
        ["far", "test", "ill", "1", "unknown"],
        ["skipped:", "hidden_file", "1,", "empty_file", "1"],
    ]
    assert "jane" not in summary


def test_the_written_list_has_no_patient_names_and_keeps_the_sections(datalist: Datalist, tmp_path: Path) -> None:
    datalist.write(tmp_path / "new" / "list.json")
    text = (tmp_path / "new" / "list.json").read_text()
    content = json.loads(text)
    assert "jane" not in text
    assert [len(content[section]) for section in ("training", "validation", "test", "unsplit")] == [4, 0, 2, 0]
    assert content["class_names"] == ["well", "ill"]
    assert content["test"][1] == {
        "label": 1,
        "domain": "far",
        "id": f"{5:012x}",
        "frame": 7,
        "image": "/data/5.png",
        "patient_id": None,
    }


def test_for_training_takes_what_may_be_learned_from_and_reports_what_is_of_no_other_part(datalist: Datalist) -> None:
    chosen = datalist.for_training()
    assert {entry["split"] for entry in chosen} == {"train"}
    assert {entry["domain"] for entry in chosen} == {"id"}
    assert sorted(file.reason for file in chosen.skipped) == ["empty_file", "hidden_file"]


def test_calibration_is_no_part_of_training_and_is_evaluated_where_it_is_asked_for() -> None:
    items = [item(number, split=split) for number, split in enumerate(("train", "val", "calibration", "test"))]
    skipped = [SkippedFile(Path("/data/c"), "c", "empty_file", "id", "calibration")]
    datalist = Datalist([*items, item(4, split="test", domain="near")], class_names=["well", "ill"], skipped=skipped)
    assert [entry["split"] for entry in datalist.for_training()] == ["train", "val"]
    assert datalist.for_training().skipped == []
    assert [entry["split"] for entry in datalist.for_evaluation()] == ["test", "test"]
    chosen = datalist.for_evaluation(["val", "calibration"])
    assert [(entry["split"], entry["domain"]) for entry in chosen] == [
        ("val", "id"), ("calibration", "id"), ("test", "near"),
    ]  # fmt: skip
    assert chosen.skipped == skipped


@pytest.mark.parametrize("splits", [(), ["tests"], "test"])
def test_evaluation_of_unknown_splits_is_refused(datalist: Datalist, splits: Any) -> None:
    with pytest.raises(DataError, match=r"list of some of train, val, calibration, test"):
        datalist.for_evaluation(splits)


def test_calibration_comes_back_from_a_written_list(tmp_path: Path) -> None:
    items = [item(number, split=split) for number, split in enumerate(("train", "calibration"))]
    Datalist(items, class_names=["well", "ill"]).write(tmp_path / "list.json")
    content = json.loads((tmp_path / "list.json").read_text())
    assert [len(content[name]) for name in ("training", "calibration", "test")] == [1, 1, 0]
