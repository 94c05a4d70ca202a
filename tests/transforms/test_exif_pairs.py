"""Photos that EXIF turns, and masks drawn on the stored or on the shown pixels: aligned, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from movl_monai.readers import MedicalImageError
from movl_monai.readers.label_map import looks_swapped
from movl_monai.readers.pillow_file import turn_array
from movl_monai.readers.raster import raster_turn, read_raster
from movl_monai.transforms import LoadImageMask, LoadMedicalImage
from tests.readers.refusals import refused

SQUARE, WIDE = (24, 24), (16, 24)
SIDEWAYS = (5, 6, 7, 8)


def pair(
    folder: Path, turn: int, size: tuple[int, int], *, drawn: str = "stored", own: int = 1, form: str = "png"
) -> tuple[Path, Path]:
    """A photo with a bright corner, and the mask of it."""
    mask = np.zeros(size, np.uint8)
    mask[2:6, 3:9] = 1
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(40 + 180 * mask).save(folder / f"image.{form}", exif=exif)
    if drawn == "shown":
        mask = turn_array(mask, turn)
    exif[0x0112] = own
    Image.fromarray(mask).save(folder / "mask.png", exif=exif)
    return folder / f"image.{form}", folder / "mask.png"


def is_aligned(image: Path, mask: Path, **options: str) -> bool:
    pixels, classes, _ = LoadImageMask(num_classes=2, **options).read(image, mask)  # type: ignore[arg-type]
    assert classes is not None
    return bool(((pixels[0] > 0.5) == (classes[0] == 1)).all())


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_array_is_turned_as_pillow_turns_it(turn: int) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(values)
    image.getexif()[0x0112] = turn
    assert np.array_equal(turn_array(values, turn), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("form", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("turn", [3, 6])
def test_ignored_orientation_gives_the_stored_pixels(tmp_path: Path, turn: int, form: str) -> None:
    image, mask = pair(tmp_path, turn, WIDE, form=form)
    pixels, record = read_raster(image, exif="ignore")
    assert np.array_equal(pixels[0] > 0.5, np.asarray(Image.open(mask)) == 1)
    assert "exif_ignored" in record["flags"]
    assert raster_turn(image) == (turn, WIDE)
    assert LoadMedicalImage(exif="ignore")(image).shape[1:] == WIDE
    assert is_aligned(image, mask, exif="ignore")


@pytest.mark.parametrize("drawn", ["stored", "shown"])
@pytest.mark.parametrize("turn", SIDEWAYS)
@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sizes_tell_on_which_pixels_a_mask_was_drawn(tmp_path: Path, turn: int, drawn: str, form: str) -> None:
    image, mask = pair(tmp_path, turn, WIDE, drawn=drawn, form=form)
    assert is_aligned(image, mask)
    assert LoadImageMask(num_classes=2).read(image, mask)[0].shape[1:] == WIDE[::-1]  # as prediction shows it


@pytest.mark.parametrize(
    ("turn", "size", "own"),
    [
        *((turn, SQUARE, 1) for turn in range(2, 9)),
        *((turn, WIDE, 1) for turn in (2, 3, 4)),
        (6, SQUARE, 8),
        (1, SQUARE, 6),
    ],
)
def test_a_pair_that_tells_nothing_is_refused_with_the_ways_out(
    tmp_path: Path, turn: int, size: tuple[int, int], own: int
) -> None:
    image, mask = pair(tmp_path, turn, size, own=own)
    with refused("mask_mismatch", "--exif ignore.*--exif apply"):
        LoadImageMask(num_classes=2).read(image, mask)
    assert is_aligned(image, mask, exif="ignore")


@pytest.mark.parametrize("turn", [2, 3, 6, 8])
def test_masks_of_shown_photos_are_applied_where_it_is_said(tmp_path: Path, turn: int) -> None:
    assert is_aligned(*pair(tmp_path, turn, SQUARE, drawn="shown"), exif="apply")


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_mask_with_the_orientation_of_its_photo_is_turned_with_it(tmp_path: Path, turn: int) -> None:
    assert is_aligned(*pair(tmp_path, turn, SQUARE, own=turn))


def test_another_word_for_exif_is_refused() -> None:
    with pytest.raises(ValueError, match="'apply' or 'ignore', got 'rotate'"):
        LoadImageMask(num_classes=2, exif="rotate")  # type: ignore[arg-type]


@pytest.mark.parametrize("quality", [None, 90])
def test_a_swapped_pair_is_flagged_and_a_right_one_is_not(tmp_path: Path, quality: int | None) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((48, 48), np.uint8)
    mask[10:30, 12:30] = 255
    photo = np.clip(np.linspace(20, 120, 48)[:, None] + rng.normal(0, 12, (48, 48)) + 0.3 * mask, 0, 255)
    suffix = "png" if quality is None else "jpg"
    for name, values in (("image", photo.astype(np.uint8)), ("mask", mask)):
        Image.fromarray(values).save(tmp_path / f"{name}.{suffix}", **({} if quality is None else {"quality": quality}))
    image, marks = tmp_path / f"image.{suffix}", tmp_path / f"mask.{suffix}"
    load = LoadImageMask(num_classes=2, mask_threshold=128)
    assert "looks_swapped" not in load.read(image, marks)[2]["flags"]
    assert "looks_swapped" in load.read(marks, image)[2]["flags"]
    with pytest.raises(
        MedicalImageError, match="seem to be swapped.*As they are: Expected a mask of the values 0, 255"
    ):
        LoadImageMask(num_classes=2, mask_values=[0, 255]).read(marks, image)


def test_blank_and_dark_images_do_not_look_swapped() -> None:
    instances = np.repeat(np.arange(40), 40).reshape(40, 40)
    assert not looks_swapped(np.zeros((40, 40)), np.eye(40))
    assert not looks_swapped(np.random.default_rng(0).normal(size=(40, 40)), instances)
