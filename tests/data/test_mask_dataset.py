"""Images with masks in memory: storage, reports, and augmentation that moves both alike."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd
from PIL import Image

from movl_monai.data import ImageContractError, SegmentationDataset, read_mask_datalist, read_unlabelled
from movl_monai.errors import DataError
from movl_monai.transforms import LoadImageMaskd, QuantizeImaged, RandomAugmentImaged, ResizeImaged
from tests.evaluation.masks import chain
from tests.tables import read_rows

_chain = partial(chain, num_classes=2, size=16)


def _pair(root: Path, split: str, name: str, *, value: int = 1, size: tuple[int, int] = (20, 30)) -> None:
    """A bright square on noise, and its mask."""
    generator = np.random.default_rng(len(name) + ord(name[0]))
    image, mask = generator.integers(0, 80, size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    image[5:12, 8:20] += 150
    mask[5:12, 8:20] = value
    for kind, array in (("images", image), ("masks", mask)):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / split / kind / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, names in (("train", "abcd"), ("val", "ef"), ("test", "gh")):
        for name in names:
            _pair(tmp_path, split, name)
    return tmp_path


def test_images_and_masks_are_kept_and_selected_together(root: Path) -> None:
    data = SegmentationDataset(read_mask_datalist(root), _chain(), progress=False)
    assert data.images.shape == (8, 3, 16, 16)
    assert data.masks.shape == (8, 16, 16)
    assert data.masks.dtype == torch.uint8
    item = data[0]
    assert set(item) == {"image", "mask", "index", "id", "case", "split", "domain"}
    val = data.select(split="val")
    assert isinstance(val, SegmentationDataset)
    assert len(val) == len(val.cases) == len(val.geometry) == 2
    assert torch.equal(val.masks, data.masks[4:6])
    assert np.array_equal(val.native_mask(1), data.native_mask(5))


def test_the_mask_at_its_own_size_is_kept_exactly(root: Path) -> None:
    data = SegmentationDataset(read_mask_datalist(root), _chain(), progress=False)
    for index, item in enumerate(data.data):
        assert np.array_equal(data.native_mask(index), np.asarray(Image.open(item["mask"])))
        assert (data.geometry[index]["rows"], data.geometry[index]["columns"]) == (20, 30)


def test_bad_pairs_are_rows_of_the_report_with_their_reason(root: Path, tmp_path: Path) -> None:
    _pair(root, "train", "x", value=7)
    _pair(root, "train", "y")
    Image.new("L", (9, 9)).save(root / "train/masks/y.png")
    (root / "train/images/z.png").write_bytes(b"junk")
    Image.new("L", (9, 9)).save(root / "train/masks/z.png")
    Image.new("L", (9, 9)).save(root / "train/images/lonely.png")
    report = tmp_path / "report.csv"
    data = SegmentationDataset(read_mask_datalist(root), _chain(), progress=False, report=report, max_unreadable=0.5)
    assert len(data) == 8
    rows = read_rows(report)
    reasons = sorted(row["reason"] for row in rows if row["reason"])
    assert reasons == ["image_without_mask", "mask_mismatch", "mask_values", "unsupported_format"]
    (stray,) = [row for row in rows if row["reason"] == "mask_values"]
    assert "got also 7" in stray["detail"]
    assert {row["mask_classes"] for row in rows if row["status"] == "ok"} == {"0 1"}


def test_augmentation_moves_image_and_mask_alike_and_follows_the_epoch(root: Path) -> None:
    augment = RandomAugmentImaged("image", mask_keys="mask", prob=1.0, rotate_degrees=90, shift=0.2, noise=0)
    data = SegmentationDataset(read_mask_datalist(root), _chain(size=64), progress=False)
    train = data.select(split="train", augment=augment)
    item = train[0]
    assert item["image"].dtype == torch.float32
    assert item["mask"].dtype == torch.uint8
    assert set(item["mask"].unique().tolist()) == {0, 1}
    plain = data[0]
    assert not torch.equal(item["mask"], plain["mask"])
    # the square is bright wherever it went
    assert item["image"][0][item["mask"] == 1].mean() > 1.5 * item["image"][0][item["mask"] == 0].mean()
    assert torch.equal(train[0]["mask"], item["mask"])
    train.set_epoch(1)
    assert not torch.equal(train[0]["mask"], item["mask"])


def test_several_augmentations_are_drawn_in_turn_and_one_as_alone(root: Path) -> None:
    augment = RandomAugmentImaged("image", mask_keys="mask", prob=1.0, rotate_degrees=90, shift=0.2, noise=0)
    crop = RandSpatialCropd(["image", "mask"], roi_size=[24, 24], random_size=False)
    data = SegmentationDataset(read_mask_datalist(root), _chain(size=64), progress=False)
    both = data.select(split="train", augment=[augment, crop])
    assert both[0]["image"].shape == (3, 24, 24)
    assert both[0]["mask"].shape == (24, 24)
    assert torch.equal(both[0]["image"], both[0]["image"])
    alone, listed = (data.select(split="train", augment=given)[0] for given in (augment, [augment]))
    assert torch.equal(alone["image"], listed["image"])
    assert data.select(split="train", augment=[]).augment is None


def test_slices_know_their_case_and_place(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        values = np.random.default_rng(3).integers(0, 2, (8, 9, 3)).astype(np.uint8)
        nib.save(nib.Nifti1Image(values, np.diag([0.5, 2.0, 4.0, 1])), tmp_path / kind / "v.nii.gz")
    data = SegmentationDataset(read_mask_datalist(tmp_path, split_fractions=None), _chain(), progress=False)
    assert len(set(data.cases)) == 1
    assert data.cases[0] != data.data[0]["id"]
    facts = data.geometry[2]
    assert (facts["frame"], facts["frames"], facts["slice_spacing"]) == (2, 3, 4.0)
    assert facts["pixel_spacing"] == [2.0, 0.5]


def test_pixels_of_each_class_are_counted(root: Path) -> None:
    data = SegmentationDataset(read_mask_datalist(root), _chain(), progress=False)
    counts = data.pixel_counts(3)
    assert counts.sum() == 8 * 16 * 16
    assert counts[1] == (data.masks == 1).sum()
    assert counts[2] == 0


def test_images_without_masks_have_none(root: Path) -> None:
    data = SegmentationDataset(read_unlabelled(root / "test/images", class_names=["a", "b"]), _chain(), progress=False)
    assert not data.has_masks
    assert "mask" not in data[0]
    with pytest.raises(DataError, match="no mask"):
        data.native_mask(0)
    with pytest.raises(DataError, match="no masks"):
        data.pixel_counts(2)


def test_a_chain_that_does_not_resize_the_mask_is_the_chains_fault(root: Path) -> None:
    chain = Compose([LoadImageMaskd(num_classes=2), ResizeImaged("image", 16), QuantizeImaged("image")])
    with pytest.raises(ImageContractError, match="add ResizeMaskd"):
        SegmentationDataset(read_mask_datalist(root), chain, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mask_threshold": 128}, "in 8 of 8 pairs"), ({"mask_values": [0, 230]}, "mask_values 8.*seem to be swapped")],
)
def test_swapped_images_and_masks_are_an_error(root: Path, options: dict[str, object], message: str) -> None:
    for split in ("train", "val", "test"):
        for one, other in (("images", "x"), ("masks", "images"), ("x", "masks")):
            (root / split / one).rename(root / split / other)
    with pytest.raises(DataError, match=message):
        SegmentationDataset(read_mask_datalist(root), _chain(**options), progress=False)
