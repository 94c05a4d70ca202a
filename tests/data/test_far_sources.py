"""Tests of far sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movl_monai.data import ImageDataset, read_datalist
from movl_monai.errors import DataError

SALT = "0123456789abcdef"
Make = Callable[..., Path]


@pytest.fixture
def folder(make_images: Make) -> Path:
    return make_images(f"{split}/{label}/{split}{label}.png" for split in ("train", "val", "test") for label in "ab")


def test_every_image_below_a_far_folder_is_taken_without_a_label(folder: Path, make_images: Make) -> None:
    far = make_images(["x/1.png", "y/deep/2.png", "3.png"], root="colon")
    datalist = read_datalist(folder, far_dataset_dirs=[far], id_salt=SALT)
    items = list(datalist.select(domain="colon"))
    assert [(item["label"], item["split"]) for item in items] == [(None, "test")] * 3
    assert datalist.far_domains == ["colon"]
    assert datalist.select("test").far_domains == ["colon"]


def test_far_sets_can_be_named(folder: Path, make_images: Make) -> None:
    sets = {"endoscopy": make_images(["1.png"], root="one"), "ct": make_images(["2.png"], root="two")}
    datalist = read_datalist(folder, far_dataset_dirs=sets, id_salt=SALT)
    assert datalist.far_domains == ["endoscopy", "ct"]
    assert [len(datalist.select(domain=name)) for name in ("endoscopy", "ct")] == [1, 1]


def test_a_far_manifest_needs_no_labels_and_its_labels_and_domains_are_left_out(
    folder: Path, make_images: Make
) -> None:
    root = make_images(["1.png", "2.png"], root="skin")
    (root / "manifest.csv").write_text("path,label,domain\n1.png,melanoma,x\n2.png,,y\n")
    datalist = read_datalist(folder, far_dataset_dirs=[root], id_salt=SALT)
    assert [item["label"] for item in datalist.select(domain="skin")] == [None, None]


def test_of_a_folder_with_masks_the_images_are_taken(folder: Path, make_images: Make) -> None:
    pairs = make_images(
        f"{split}/{kind}/{split}.png" for split in ("train", "test") for kind in ("images", "masks")
    )  # below the folder of the classes: read from another root
    root = pairs.parent / "polyps"
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            target = root / split / kind / f"{split}.png"
            target.parent.mkdir(parents=True)
            (pairs / split / kind / f"{split}.png").rename(target)
            (pairs / split / kind).rmdir()
    items = list(read_datalist(folder, far_dataset_dirs=[root], id_salt=SALT).select(domain="polyps"))
    assert sorted(Path(item["image"]).parent.name for item in items) == ["images", "images"]
    assert not any("mask" in item for item in items)


def test_far_images_are_evaluated_only_where_they_are_asked_for(folder: Path, make_images: Make) -> None:
    far, near = make_images(["1.png"], root="colon"), make_images(["a/2.png", "b/3.png"], root="elsewhere")
    datalist = read_datalist(folder, ood_dataset_dirs=[near], far_dataset_dirs=[far], id_salt=SALT)
    assert datalist.for_evaluation().domains == ["id", "elsewhere"]
    assert set(datalist.for_evaluation(far=True).domains) == {"id", "colon", "elsewhere"}
    assert datalist.for_training().domains == ["id"]


def test_the_pixels_of_a_far_image_in_train_are_leakage(folder: Path, make_images: Make, transform: Callable) -> None:
    far = make_images(["1.png"], root="colon")
    (far / "1.png").write_bytes((folder / "train" / "a" / "traina.png").read_bytes())
    datalist = read_datalist(folder, far_dataset_dirs=[far], id_salt=SALT)
    images = ImageDataset(datalist.for_evaluation(["train", "test"], far=True), transform)
    (duplicate,) = images.duplicates
    assert duplicate.leaks
    assert not duplicate.contradicts
    assert images.labels[images.data.index(datalist.select(domain="colon")[0])] == -1


def test_a_name_in_use_is_refused(folder: Path, make_images: Make) -> None:
    far = make_images(["1.png"], root="colon")
    with pytest.raises(DataError, match="The name 'id' of a data set is in use"):
        read_datalist(folder, far_dataset_dirs={"id": far}, id_salt=SALT)


def test_a_far_folder_without_images_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No image was found"):
        read_datalist(folder, far_dataset_dirs=[tmp_path / "empty"], id_salt=SALT)


def test_a_far_folder_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file or folder 'nowhere'"):
        read_datalist(folder, far_dataset_dirs=[tmp_path / "nowhere"], id_salt=SALT)


def test_real_sets_of_other_kinds_are_far_sets_of_an_x_ray_set(test_data: Path) -> None:
    sets = {"ct": test_data / "data" / "ct_contrast_dicom", "polyps": test_data / "data" / "kvasir_seg"}
    datalist = read_datalist(test_data / "data" / "cxr_pneumonia", far_dataset_dirs=sets, id_salt=SALT)
    files = {
        "ct": len(list(sets["ct"].rglob("*.dcm"))),
        "polyps": sum(1 for path in sets["polyps"].rglob("images/*") if path.is_file()),
    }
    for name, count in files.items():
        items = list(datalist.select(domain=name))
        assert len(items) == count
        assert {item["label"] for item in items} == {None}
    assert set(datalist.for_evaluation().ood_domains) == {"ood_nih", "ood_official_test"}
