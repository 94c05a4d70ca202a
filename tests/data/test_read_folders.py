"""Class folders, with and without split folders, and stray files in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from movl_monai.data.read_folders import file_at_problem, find_files, name_problem, read_folders
from movl_monai.errors import DataError

MakeImages = Callable[..., Path]


def test_folders_are_classes_however_deep_the_images_lie(make_images: MakeImages) -> None:
    entries = read_folders(make_images(["ill/1.png", "ill/p2/study/2.png", "well/3"])).entries
    assert {(entry.key, entry.label, entry.split) for entry in entries} == {
        ("ill/1.png", "ill", None),
        ("ill/p2/study/2.png", "ill", None),
        ("well/3", "well", None),
    }


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TESTING"), ("train", "valid")])
def test_folders_called_like_splits_are_splits(make_images: MakeImages, names: tuple[str, ...]) -> None:
    entries = read_folders(make_images([f"{name}/{label}/a.png" for name in names for label in "xy"])).entries
    found = {entry.key.split("/")[0]: (entry.split, entry.label) for entry in entries if entry.label == "y"}
    assert found == {name: (split, "y") for name, split in zip(names, ("train", "val", "test"), strict=False)}


def test_every_other_file_is_skipped_with_a_reason(make_images: MakeImages, tmp_path: Path) -> None:
    root = make_images(["ill/1.png", "well/2.png", "top.png", "__MACOSX/ill/1.png", ".git/x.png", "ill/._1.png"])
    for name in ("README.md", "manifest.tsv", "ill/Thumbs.db", "well/.DS_Store", "well/notes.txt", "well/DICOMDIR"):
        (root / name).write_bytes(b"x")
    (root / "ill" / "zero.png").touch()
    os.mkfifo(root / "ill" / "fifo.png")
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"x")
    (root / "ill" / "out.png").symlink_to(outside)
    (root / "ill" / "in.png").symlink_to(root / "ill" / "1.png")
    (root / "ill" / "loop").symlink_to(root)
    listing = read_folders(root)
    assert sorted(entry.key for entry in listing.entries) == ["ill/1.png", "ill/in.png", "well/2.png"]
    assert {file.key: file.reason for file in listing.skipped} == {
        "top.png": "outside_class_folder",
        "__MACOSX/ill/1.png": "hidden_file",
        ".git/x.png": "hidden_file",
        "ill/._1.png": "hidden_file",
        "ill/Thumbs.db": "hidden_file",
        "well/.DS_Store": "hidden_file",
        "README.md": "other_file",
        "manifest.tsv": "other_file",
        "well/notes.txt": "other_file",
        "well/DICOMDIR": "other_file",
        "ill/zero.png": "empty_file",
        "ill/fifo.png": "not_regular_file",
        "ill/out.png": "link_out_of_folder",
        "ill/loop": "linked_folder",
    }


def test_an_image_in_a_split_folder_but_no_class_folder_is_skipped(make_images: MakeImages) -> None:
    listing = read_folders(make_images(["train/a/1.png", "train/b/2.png", "train/3.png"]))
    assert [(file.reason, file.split) for file in listing.skipped] == [("outside_class_folder", "train")]


def test_splits_beside_other_folders_are_refused(make_images: MakeImages) -> None:
    with pytest.raises(DataError, match=r"Split folders \(test, train\) and others \(extra\) lie side by side"):
        read_folders(make_images(["train/a/1.png", "test/a/1.png", "extra/a/1.png"]))


@pytest.mark.parametrize("paths", [[], ["1.png"], [".hidden/1.png"]])
def test_a_folder_without_class_folders_is_refused(make_images: MakeImages, paths: list[str]) -> None:
    root = make_images(paths)
    root.mkdir(exist_ok=True)
    with pytest.raises(DataError, match="one folder per class"):
        read_folders(root)


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
