"""Decathlon JSON with names, numbers and strings as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from movl_monai.data.read_json import read_json
from movl_monai.errors import DataError

MakeImages = Callable[..., Path]


@pytest.fixture
def make_json(make_images: MakeImages) -> Callable[..., Path]:
    def make(**content: Any) -> Path:
        root = make_images(["a.png", "b.png", "c.png"])
        (root / "list.json").write_text(json.dumps(content))
        return root / "list.json"

    return make


def test_sections_are_splits_and_fields_are_kept(make_json: Callable[..., Path]) -> None:
    entry = {"image": "./a.png", "label": "ill", "patient_id": 7, "domain": "far", "frame": 2, "id": "0" * 12}
    source = make_json(training=[entry], validation=[{"image": "b.png", "label": "well"}], test=["c.png"])
    first, second, third = read_json(source).entries
    assert (first.key, first.label, first.patient, first.split) == ("a.png", "ill", "7", "train")
    assert (first.domain, first.frame, first.id) == ("far", 2, "0" * 12)
    assert (second.label, second.split) == ("well", "val")
    assert (third.key, third.label, third.split) == ("c.png", None, "test")


@pytest.mark.parametrize(
    ("names", "labels", "order"),
    [
        ({"class_names": ["well", "ill"]}, ["well", "ill"], ["well", "ill"]),
        ({"labels": {"1": "ill", "0": "well"}}, ["well", "ill"], ["well", "ill"]),
        ({}, ["0", "1"], None),
    ],
)
def test_numbers_are_named(
    make_json: Callable[..., Path], names: dict[str, Any], labels: list[str], order: list[str] | None
) -> None:
    source = make_json(training=[{"image": "a.png", "label": 0}, {"image": "b.png", "label": 1}], **names)
    listing = read_json(source)
    assert [entry.label for entry in listing.entries] == labels
    assert listing.class_names == order


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"training": [{"image": "a.png", "label": "masks/a.nii.gz"}]},
            r"training\[0\] .* is the path of a mask",
        ),
        ({"training": [{"image": "a.png", "label": 2}], "class_names": ["x", "y"]}, r"label 2 has no name"),
        ({"training": [{"image": "a.png", "label": 0.5}]}, r"class name or the number of a class, got float"),
        ({"training": [{"image": "a.png", "label": 1, "frame": -1}]}, r"frame must be a number from 0, got -1"),
        ({"training": [{"label": 1}]}, r"training\[0\] of list.json must be a path"),
        ({"training": [{"image": "../a.png"}]}, r"In training\[0\] of list.json, a path leads out"),
        ({"images": []}, r"must be an object with a list under one of: training"),
        ({"training": [], "class_names": ["x", "x"]}, r"two or more different"),
        ({"training": [], "labels": {"x": "y"}}, r"class names must be a list of names or"),
    ],
)
def test_what_cannot_be_understood_is_named(make_json: Callable[..., Path], content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_json(make_json(**content))


def test_a_missing_file_is_skipped_with_the_reason(make_json: Callable[..., Path]) -> None:
    listing = read_json(make_json(training=[{"image": "a.png", "label": 0}, {"image": "none.png", "label": 0}]))
    assert [(file.key, file.reason, file.split) for file in listing.skipped] == [("none.png", "missing_file", "train")]


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('{"training": [')
    with pytest.raises(DataError, match="is not valid JSON"):
        read_json(tmp_path / "list.json")
