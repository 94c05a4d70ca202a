"""Images and masks by folder convention: pairs, and reports of files without a partner."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from movl_monai.data.read_folders import read_pairs
from movl_monai.errors import DataError

Make = Callable[[Iterable[str]], Path]


def _found(root: Path) -> set[tuple[str, str, str | None]]:
    listing = read_pairs(root)
    return {(e.key, str(e.mask.relative_to(root)) if e.mask else "", e.split) for e in listing.entries}


def _skipped(root: Path) -> dict[str, str]:
    return {file.key: file.reason for file in read_pairs(root).skipped}


def test_files_of_one_name_belong_together_whatever_their_suffix(make_images: Make) -> None:
    root = make_images(["images/a.jpg", "images/b/c.nii.gz", "masks/a.png", "masks/b/c.nii"])
    assert _found(root) == {("images/a.jpg", "masks/a.png", None), ("images/b/c.nii.gz", "masks/b/c.nii", None)}


def test_split_folders_and_other_names_of_the_two_folders(make_images: Make) -> None:
    names = ["train/images/a.png", "train/masks/a.png", "validation/images/b.png", "validation/masks/b.png"]
    assert _found(make_images([*names, "test/Images/c.png", "test/labels/c.png"])) == {
        ("train/images/a.png", "train/masks/a.png", "train"),
        ("validation/images/b.png", "validation/masks/b.png", "val"),
        ("test/Images/c.png", "test/labels/c.png", "test"),
    }


def test_what_has_no_partner_is_reported_with_its_reason(make_images: Make) -> None:
    names = ["images/a.png", "masks/a.png", "images/alone.png", "masks/lost.png", "masks/lost2.png", "images/.DS_Store"]
    root = make_images([*names, "notes.txt", "preview.png"])
    assert _found(root) == {("images/a.png", "masks/a.png", None)}
    assert _skipped(root) == {
        "images/alone.png": "image_without_mask",
        "masks/lost.png": "mask_without_image",
        "masks/lost2.png": "mask_without_image",
        "images/.DS_Store": "hidden_file",
        "notes.txt": "other_file",
        "preview.png": "outside_pair_folders",
    }


def test_two_files_of_one_name_are_ambiguous(make_images: Make) -> None:
    root = make_images(["images/a.png", "images/a.jpg", "masks/a.png", "images/b.png", "masks/b.png"])
    assert _found(root) == {("images/b.png", "masks/b.png", None)}
    assert _skipped(root) == {
        "images/a.png": "ambiguous_pair",
        "images/a.jpg": "ambiguous_pair",
        "masks/a.png": "mask_without_image",
    }


@pytest.mark.parametrize("mask", ["masks/case.dcm", "masks/case/anything.dcm"])
def test_a_folder_of_images_with_one_mask_is_a_series(make_images: Make, mask: str) -> None:
    root = make_images(["images/case/1.dcm", "images/case/2.dcm", mask])
    assert _found(root) == {("images/case", mask, None)}
    assert _skipped(root) == {}


def test_names_of_masks_may_have_a_suffix(make_images: Make) -> None:
    root = make_images(["images/a.png", "masks/a_mask.png"])
    listing = read_pairs(root, mask_suffix="_mask")
    assert [(entry.key, entry.mask) for entry in listing.entries] == [("images/a.png", root / "masks/a_mask.png")]


def test_an_empty_file_is_no_partner(make_images: Make) -> None:
    root = make_images(["images/a.png", "masks/a.png", "images/b.png", "masks/b.png"])
    (root / "masks/a.png").write_bytes(b"")
    assert _found(root) == {("images/b.png", "masks/b.png", None)}
    assert _skipped(root) == {"masks/a.png": "empty_file", "images/a.png": "image_without_mask"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["images/a.png"], "got the folders: images"),
        (["cats/a.png", "dogs/b.png"], "got the folders: cats, dogs"),
        (["images/a.png", "masks/b.png"], "No image with a mask of the same name was found among 2 files"),
        (["train/images/a.png", "other/masks/a.png"], "lie side by side"),
    ],
)
def test_a_folder_of_another_form_is_refused(make_images: Make, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(make_images(names))


def test_the_real_sets_as_they_were_found(test_data: Path) -> None:
    listing = read_pairs(test_data / "data/hippocampus_nifti")
    assert len(listing.entries) == 130
    assert sorted((file.key.rpartition("/")[2], file.reason) for file in listing.skipped) == [
        (".DS_Store", "hidden_file"),
        ("hippocampus_010.nii.gz", "mask_without_image"),
        ("hippocampus_118.nii.gz", "image_without_mask"),
        ("hippocampus_281.nii.gz", "mask_without_image"),
    ]
    polyps = read_pairs(test_data / "data/kvasir_seg")
    counts = {split: sum(entry.split == split for entry in polyps.entries) for split in ("train", "val", "test")}
    assert counts == {"train": 500, "val": 100, "test": 100}
    assert polyps.skipped == []
