"""Tests of atomic writing and of JSON-able values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from movl_monai.errors import MovlError
from movl_monai.files import jsonable, to_json, write_atomically


def test_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "a" / "f.txt", content)
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "a").iterdir()] == [("f.txt", b"new")]


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "f.txt", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(MovlError, match=r"f.txt cannot be written: No space left on device"):
        write_atomically(tmp_path / "f.txt", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_json_holds_numpy_dataclasses_and_the_last_part_of_paths_only() -> None:
    @dataclass
    class Stage:
        lr: dict[str, float]

    value = {1: np.float32(0.5), "n": np.arange(2), "stage": (Stage({"head": 1e-3}),), "file": Path("/home/me/m.pt")}
    value |= {"device": torch.device("cpu"), "flag": True}
    expected = {"1": 0.5, "n": [0, 1], "stage": [{"lr": {"head": 1e-3}}], "file": "m.pt", "device": "cpu", "flag": True}
    assert json.loads(to_json(jsonable(value))) == expected


def test_json_text_refuses_numbers_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})
