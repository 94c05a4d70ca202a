"""Folders of images and masks: paired as in training, masks never images, swapped ones an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from movl_monai.cli import main
from movl_monai.data import read_mask_datalist
from movl_monai.errors import DataError
from movl_monai.ingest.run import Outcome, Reading, check_manifest, ingest_folder
from tests.data.test_read_nnunet import nnunet
from tests.ingest.conftest import SMALL, MakeSlice
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import segmentation, source_series
from tests.tables import read_rows

READING = Reading(preprocessing=SMALL, progress=False, patient_pictures=20)


def pairs(root: Path, count: int = 6, *, suffix: str = "", turn: int | None = None) -> Path:
    """Photos with a bright rectangle, and masks of it."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = turn or 1
    for number in range(count):
        mask = np.zeros((32, 32), np.uint8)
        mask[4 : 14 + number, 6:20] = 1
        photo = np.clip(np.linspace(20, 130, 32)[:, None] + rng.normal(0, 12, mask.shape) + 90 * mask, 0, 255)
        for folder, name, values in (("images", f"{number}.png", photo), ("masks", f"{number}{suffix}.png", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(
                root / folder / name, exif=exif if folder == "images" else None
            )
    return root


def ingest(root: Path, **options: Any) -> Outcome:
    return ingest_folder(root, out=root / "manifest.csv", reading=options.pop("reading", READING), **options)


@pytest.mark.parametrize("labels", [None, "masks"])
def test_masks_are_neither_images_nor_pictures(tmp_path: Path, labels: str | None) -> None:
    outcome = ingest(pairs(tmp_path), labels=labels, one_image_per_patient=True)
    quality = outcome.quality
    assert (quality["images"], quality["statuses"]) == (6, {"mask": 6, "ok": 6})
    assert len(quality["pictures"]["shown"]) == 6
    listed = read_rows(tmp_path / "manifest.csv")
    assert {(row["path"], row["mask"]) for row in listed} == {(f"images/{n}.png", f"masks/{n}.png") for n in range(6)}
    assert {row["split"] for row in listed} == ({""} if labels is None else {"train", "val", "test"})


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_the_manifest_gives_training_the_pairs_of_the_folder(tmp_path: Path, suffix: str) -> None:
    pairs(tmp_path, suffix=suffix)
    direct = read_mask_datalist(tmp_path, one_image_per_patient=True, mask_suffix=suffix)
    ingest(tmp_path, labels="masks", one_image_per_patient=True, mask_suffix=suffix)
    again = read_mask_datalist(tmp_path, split_fractions=None)
    assert {(i["image"], i["mask"]) for i in again} == {(i["image"], i["mask"]) for i in direct}


def test_files_without_a_partner_are_named(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "masks/1.png").unlink()
    (tmp_path / "images/2.png").unlink()
    outcome = ingest(tmp_path)
    statuses = outcome.quality["statuses"]
    assert (statuses["image_without_mask"], statuses["mask_without_image"], statuses["ok"]) == (1, 1, 4)
    assert any("image_without_mask 1, mask_without_image 1" in note for note in outcome.notes)
    assert len([row for row in read_rows(tmp_path / "ingest_report.csv") if row["status"].endswith("image")]) == 1


@pytest.mark.parametrize("command", ["ingest", "check"])
def test_swapped_images_and_masks_end_the_command(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(tmp_path / "data")
    for one, other in (("images", "x"), ("masks", "images"), ("x", "masks")):
        (tmp_path / "data" / one).rename(tmp_path / "data" / other)
    out = ["--out", str(tmp_path / "m.csv")] if command == "ingest" else []
    assert main([command, str(tmp_path / "data"), *out, "--workers", "0", "--no_progress"]) == 2
    assert "seem to be swapped" in " ".join(capsys.readouterr().err.split())


def test_check_pairs_a_folder_and_names_pairs_that_do_not_fit(tmp_path: Path) -> None:
    outcome = check_manifest(pairs(tmp_path, turn=6), reading=READING)
    assert outcome.quality["images"] == 6
    assert any("6 of 6 pairs" in note and "--exif ignore" in note for note in outcome.notes)


@pytest.mark.parametrize("command", ["ingest", "check"])
@pytest.mark.parametrize(("exif", "fit"), [((), False), (("--exif", "ignore"), True), (("--exif", "apply"), True)])
def test_the_way_out_that_is_named_for_turned_pairs_can_be_given(
    tmp_path: Path, command: str, exif: tuple[str, ...], fit: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "m.csv")] if command == "ingest" else []
    assert main([command, str(pairs(tmp_path / "data", turn=3)), *out, "--workers", "0", "--no_progress", *exif]) == 0
    assert ("--exif ignore" in capsys.readouterr().out) is not fit


def test_class_folders_cannot_be_images_and_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--labels masks"):
        ingest(pairs(tmp_path), labels="folders")


def test_nnunet_is_read(tmp_path: Path) -> None:
    outcome = ingest(nnunet(tmp_path, cases=3, ending=".nii.gz"))
    quality = outcome.quality
    assert (quality["images"], quality["volumes"]) == (9, 3)
    assert quality["statuses"] == {"mask": 3, "ok": 3, "other_file": 1}
    assert len(read_mask_datalist(tmp_path, split_fractions=None)) == 9


def test_a_series_with_one_mask_is_one_row(tmp_path: Path, make_slice: MakeSlice) -> None:
    for case in ("a", "b"):
        for z in range(4):
            make_slice(tmp_path / f"images/{case}/{z}.dcm", z=float(z), series=case, patient=case, seed=z)
        mask = nib.Nifti1Image(np.zeros((12, 12, 4), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
        (tmp_path / "masks").mkdir(exist_ok=True)
        nib.save(mask, tmp_path / f"masks/{case}.nii.gz")
    outcome = ingest(tmp_path)
    assert (outcome.quality["images"], outcome.quality["volumes"]) == (8, 2)
    assert [(row["path"], row["mask"]) for row in read_rows(tmp_path / "manifest.csv")] == [
        ("images/a", "masks/a.nii.gz"),
        ("images/b", "masks/b.nii.gz"),
    ]
    assert len(read_mask_datalist(tmp_path / "manifest.csv", split_fractions=None)) == 8


def test_what_is_odd_about_a_segmentation_is_in_its_row(tmp_path: Path) -> None:
    sources = source_series()
    for case, keyword in (("a", ""), ("b", "DimensionIndexSequence"), ("c", "SegmentSequence")):
        (tmp_path / "images" / case).mkdir(parents=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        for number, source in enumerate(sources):
            as_file(source, tmp_path / "images" / case / f"{number}.dcm")
        mask = segmentation(sources)
        if keyword:
            delattr(mask, keyword)
        as_file(mask, tmp_path / "masks" / f"{case}.dcm")
    ingest(tmp_path)
    masks = [row for row in read_rows(tmp_path / "ingest_report.csv") if row["status"] == "mask"]
    assert sorted(row["flags"] for row in masks) == ["", "", "nonconforming:DimensionIndexSequence"]
    assert sorted(row["detail"].partition(":")[0] for row in masks) == ["Segmentation Storage"] * 2 + ["bad_header"]
