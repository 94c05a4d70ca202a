"""Files below a folder: all of them, and none outside of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from movl_monai.data.walk import file_at_problem, find_files, name_problem


def test_links_are_not_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/a.png").write_bytes(b"a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b.png").write_bytes(b"b")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/away").symlink_to(tmp_path / "out")
    (tmp_path / "in/b.png").symlink_to(tmp_path / "out/b.png")
    (tmp_path / "in/c.png").symlink_to(tmp_path / "in/deep/a.png")
    root = tmp_path / "in"
    found = {path.relative_to(root).as_posix(): problem for path, problem in find_files(root)}
    assert found == {
        "deep/a.png": None,
        "loop": "linked_folder",
        "away": "linked_folder",
        "b.png": None,
        "c.png": None,
    }
    assert file_at_problem(root / "b.png", root) == "link_out_of_folder"
    assert file_at_problem(root / "c.png", root) is None


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(find_files(tmp_path)) == [(tmp_path / "locked", "folder_not_readable")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.dcm", None),
        (".a.dcm", "hidden_file"),
        ("__MACOSX/a.dcm", "hidden_file"),
        ("Thumbs.db", "hidden_file"),
        ("labels.CSV", "other_file"),
        ("DICOMDIR", "other_file"),
        ("README.first", "other_file"),
    ],
)
def test_names_that_are_no_images(tmp_path: Path, name: str, reason: str | None) -> None:
    assert name_problem(tmp_path / name, tmp_path) == reason
