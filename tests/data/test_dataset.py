"""Images in memory: decoding, reports, refusals and access."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose, RandGaussianNoise
from torch.utils.data import DataLoader

from movl_monai.data import Datalist, ImageContractError, ImageDataset, concatenate, read_datalist
from movl_monai.errors import DataError
from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged
from tests.tables import read_rows

Item = dict[str, Any]
Transform = Callable[[Item], Item]
MakeImages = Callable[..., Path]
TRUNCATED = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def folder(make_images: MakeImages) -> Path:
    return make_images([f"{label}/{number}.png" for label in ("ill", "well") for number in range(10)])


def read(folder: Path, **options: Any) -> Datalist:
    return read_datalist(folder, one_image_per_patient=True, id_salt="0123456789abcdef", **options)


def test_items_are_those_of_the_list_without_loss(folder: Path, transform: Transform) -> None:
    datalist = read(folder)
    dataset = ImageDataset(datalist, transform)
    assert len(dataset) == 20
    assert (dataset.images.shape, dataset.images.dtype) == ((20, 3, 8, 8), torch.uint8)
    assert dataset.images.is_contiguous()
    for index, (item, source) in enumerate(zip(dataset, datalist, strict=True)):
        assert torch.equal(item["image"].float() / 255, transform(source)["image"])
        assert item["label"] == source["label"] == dataset.labels[index]
        assert item["index"] == index
        assert (item["id"], item["split"], item["domain"]) == (source["id"], source["split"], "id")


def test_negative_positions_count_from_the_end(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform)
    assert dataset[-1]["index"] == 19
    with pytest.raises(IndexError):
        dataset[20]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_files_are_left_out_and_reported(
    folder: Path, transform: Transform, tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "ill" / "3.png").write_bytes(TRUNCATED)
    (folder / "ill" / ".DS_Store").write_bytes(b"x")
    datalist = read(folder)
    dataset = ImageDataset(datalist, transform, num_workers=num_workers, report=tmp_path / "report.csv")
    assert len(dataset) == len(dataset.images) == len(dataset.labels) == len(dataset.data) == 19
    for item in dataset:
        assert torch.equal(item["image"].float() / 255, transform(dataset.data[item["index"]])["image"])
    rows = read_rows(tmp_path / "report.csv")
    assert len(rows) == 21
    assert [(row["status"], row["reason"], row["detail"]) for row in rows if row["status"] != "ok"] == [
        ("unreadable", "unexpected_error", "UnidentifiedImageError"),
        ("skipped", "hidden_file", ""),
    ]
    assert "1 of 20 images could not be read (unexpected_error 1)" in caplog.text
    assert str(folder) not in caplog.text + (tmp_path / "report.csv").read_text()


def test_too_many_unreadable_files_are_an_error_after_the_report(
    folder: Path, transform: Transform, tmp_path: Path
) -> None:
    for number in range(3):
        (folder / "ill" / f"{number}.png").write_bytes(TRUNCATED)
    with pytest.raises(DataError, match=r"3 of 20 images .*unexpected_error 3.*max_unreadable=0\.05 .*report\.csv"):
        ImageDataset(read(folder), transform, report=tmp_path / "report.csv")
    assert sum(row["status"] == "unreadable" for row in read_rows(tmp_path / "report.csv")) == 3
    assert len(ImageDataset(read(folder), transform, max_unreadable=0.15)) == 17


def test_files_missing_from_a_list_count_as_unreadable(make_csv: Callable[..., Path], transform: Transform) -> None:
    csv_file = make_csv("path,label", *(f"{number}.png,{'ab'[number % 2]}" for number in range(10)))
    (csv_file.parent / "4.png").unlink()
    with pytest.raises(DataError, match=r"1 of 10 images could not be read \(missing_file 1\)"):
        ImageDataset(read(csv_file), transform)


def test_nothing_readable_is_an_error_whatever_is_allowed(folder: Path) -> None:
    def fails(item: Item) -> Item:
        raise OSError

    with pytest.raises(DataError, match="20 of 20 images could not be read"):
        ImageDataset(read(folder), fails, max_unreadable=1.0)


def test_an_empty_list_is_an_error(folder: Path, transform: Transform) -> None:
    with pytest.raises(DataError, match="The list has no images"):
        ImageDataset(read(folder).select(domain="nowhere"), transform)


def test_images_of_different_sizes_are_refused(folder: Path) -> None:
    def growing(item: Item) -> Item:
        return item | {"image": torch.zeros(3, 4, 4 + int(Path(item["image"]).stem))}

    with pytest.raises(ImageContractError, match="images of one shape.*add ResizeImaged"):
        ImageDataset(read(folder), growing)


def test_technical_records_become_columns(folder: Path, transform: Transform, tmp_path: Path) -> None:
    ImageDataset(
        read(folder), lambda item: transform(item) | {"record": {"modality": "CR"}}, report=tmp_path / "report.csv"
    )
    assert {row["modality"] for row in read_rows(tmp_path / "report.csv")} == {"CR"}


def test_the_same_pixels_in_two_splits_are_reported_aloud(
    make_images: MakeImages, transform: Transform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = ("train", "val", "test")
    root = make_images([f"{split}/{label}/{number}.png" for split in splits for label in "ab" for number in range(2)])
    shutil.copy(root / "train/a/0.png", root / "test/a/0.png")
    shutil.copy(root / "train/a/1.png", root / "train/b/1.png")
    datalist = read(root)
    dataset = ImageDataset(datalist, transform, report=tmp_path / "report.csv")
    assert "LEAKAGE: 1 images have the pixels of an image in another split" in caplog.text
    assert "1 images have the pixels of an image with another label" in caplog.text
    kinds = {row["duplicate_kind"]: row["duplicate_of"] for row in read_rows(tmp_path / "report.csv")}
    assert kinds == {"": "", "other_split": dataset.data[0]["id"], "other_label": dataset.data[1]["id"]}
    with pytest.raises(DataError, match=r"LEAKAGE: 1 images.*on_leak"):
        ImageDataset(datalist, transform, on_leak="error")


def test_select_shares_memory_and_finds_the_items(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform)
    val = dataset.select("val")
    assert {item["split"] for item in val} == {"val"}
    assert [item["index"] for item in val] == list(range(len(val)))
    assert val.images.untyped_storage().data_ptr() == dataset.images.untyped_storage().data_ptr()
    assert torch.equal(val.images[0], transform(val.data[0])["image"].mul(255).round().to(torch.uint8))
    both = dataset.select(["train", "test"])
    assert len(both) == 20 - len(val)
    with pytest.raises(DataError, match="No readable image in split='holdout'"):
        dataset.select("holdout")


def test_concatenate_joins_data_sets(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform)
    joined = concatenate([dataset.select("test"), dataset.select("val")])
    assert [item["split"] for item in joined] == ["test"] * 4 + ["val"] * 4
    assert [item["index"] for item in joined] == list(range(8))
    assert torch.equal(joined.images[4:], dataset.select("val").images)


def test_concatenate_refuses_other_classes_other_sizes_and_nothing(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform)
    renamed = ImageDataset(read(folder, class_names=["well", "ill"]), transform)
    smaller = ImageDataset(read(folder), lambda item: item | {"image": transform(item)["image"][:, :4]})
    with pytest.raises(DataError, match="other classes"):
        concatenate([dataset, renamed])
    with pytest.raises(DataError, match=r"other shapes: \(3, 8, 8\) and \(3, 4, 8\)"):
        concatenate([dataset, smaller])
    with pytest.raises(DataError, match="one or more data sets"):
        concatenate([])


def noisy(dataset: ImageDataset, num_workers: int, order: list[int], epoch: int) -> dict[int, torch.Tensor]:
    dataset.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=3, num_workers=num_workers, sampler=order)
    return {int(index): image for batch in loader for index, image in zip(batch["index"], batch["image"], strict=True)}


def test_augmentation_depends_on_seed_epoch_and_image_only(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform).select("val", augment=RandGaussianNoise(prob=1.0))
    first = noisy(dataset, 0, [0, 1, 2, 3], 0)
    same = noisy(dataset, 2, [3, 1, 0, 2], 0)
    later = noisy(dataset, 0, [0, 1, 2, 3], 1)
    assert first[0].dtype == torch.float32
    for index, image in first.items():
        assert torch.equal(image, same[index])
        assert not torch.equal(image, later[index])
    assert not torch.equal(first[0] - dataset.images[0] / 255, first[1] - dataset.images[1] / 255)


def test_workers_that_persist_see_the_next_epoch(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform).select("val", augment=RandGaussianNoise(prob=1.0))
    loader = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    (first,), (again,) = list(loader), list(loader)
    dataset.set_epoch(1)
    (later,) = list(loader)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], later["image"])


def test_images_without_label_or_split_collate(make_images: MakeImages, transform: Transform) -> None:
    root = make_images(["1.png", "2.png"])
    items = [
        {"image": str(path), "label": None, "patient_id": None, "split": None, "domain": "id", "id": path.name}
        for path in sorted(root.iterdir())
    ]
    (batch,) = DataLoader(ImageDataset(Datalist(items, class_names=["a", "b"]), transform), batch_size=2)
    assert batch["label"].tolist() == [-1, -1]
    assert batch["split"] == ["", ""]


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_progress_is_shown_when_asked(
    folder: Path, transform: Transform, progress: bool | None, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ImageDataset(read(folder), transform, progress=progress)
    captured = capsys.readouterr()
    assert ("decode" in captured.err) is shown
    assert captured.out == ""


def test_a_data_set_can_be_pickled(folder: Path, transform: Transform) -> None:
    dataset = ImageDataset(read(folder), transform)
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).images, dataset.images)


def test_the_chain_of_the_bundles_fills_a_data_set(folder: Path, tmp_path: Path) -> None:
    (folder / "ill" / "3.png").write_bytes(TRUNCATED)
    chain = Compose([LoadMedicalImaged(record_key="record"), ResizeImaged("image", image_size=16), QuantizeImaged()])
    dataset = ImageDataset(read(folder), chain, report=tmp_path / "report.csv")
    assert dataset.images.shape == (19, 3, 16, 16)
    rows = {row["status"]: row for row in read_rows(tmp_path / "report.csv")}
    assert rows["ok"]["format"] == "png"
    assert rows["unreadable"]["reason"] not in ("", "unexpected_error")
    assert rows["unreadable"]["detail"]


def test_a_quarter_of_the_chest_x_rays_decodes_without_leakage(test_data: Path, transform: Transform) -> None:
    datalist = read_datalist(test_data / "data" / "cxr_pneumonia").select(domain="id")
    dataset = ImageDataset(datalist[::4], transform, on_leak="error")
    assert dataset.labels.bincount().tolist() == [200, 200]
