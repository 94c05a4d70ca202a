"""Names, words and paths that lists are written with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from movl_monai.data.entries import check_class_names, file_problem, locate, natural_sorted, parse_split, tidy
from movl_monai.errors import DataError


def test_natural_order_counts_and_removes_repetitions() -> None:
    assert natural_sorted(["g10", "g2", "g2", "10", "9", "a"]) == ["9", "10", "a", "g2", "g10"]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *((word, "train") for word in ("train", "Training", " TRAIN ")),
        *((word, "val") for word in ("val", "valid", "Validation")),
        *((word, "test") for word in ("test", "testing")),
        ("", None),
        (None, None),
    ],
)
def test_every_usual_word_for_a_split_is_understood(word: str | None, split: str | None) -> None:
    assert parse_split(word) == split


def test_other_words_are_no_split() -> None:
    with pytest.raises(KeyError):
        parse_split("holdout")


def test_names_that_macos_decomposes_equal_those_of_other_systems() -> None:
    assert tidy("gru\u0308n ") == tidy("grün") == "grün"


def test_a_path_is_found_below_the_root_also_as_windows_writes_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    expected = (tmp_path / "a" / "x.png", "a/x.png")
    assert locate("a/x.png", tmp_path) == locate("a\\x.png", tmp_path) == locate("./a/x.png", tmp_path) == expected
    assert locate(str(tmp_path / "a" / "x.png"), tmp_path) == expected


def test_an_inner_link_is_known_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "x.png")
    assert locate("link.png", tmp_path)[1] == "link.png"


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, absolute: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").touch()
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of the data folder"):
        locate(str(root / "link.png") if absolute else "link.png", root)


def test_dots_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataError, match="leads out of the data folder"):
        locate("../secret.png", root)


def test_an_absolute_path_elsewhere_is_taken_as_written(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    assert locate(str(tmp_path / "other.png"), tmp_path / "root")[0] == tmp_path / "other.png"


def test_file_problems_have_a_reason_and_a_fifo_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    found = {name: file_problem(tmp_path / name) for name in ("empty", "full", "fifo", "none", ".")}
    assert found == {
        "empty": "empty_file",
        "full": None,
        "fifo": "not_regular_file",
        "none": "missing_file",
        ".": "not_regular_file",
    }


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", " "], []])
def test_class_names_must_be_two_or_more_different_ones(names: list[str]) -> None:
    with pytest.raises(DataError, match="two or more different"):
        check_class_names(names)
