"""Opening with one plugin: the declared depth, and damaged EXIF that does not cost the image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from movl_monai.readers.pillow_file import declared_bits, decoded_upright, open_pillow
from movl_monai.readers.raster import read_raster
from tests.readers.refusals import refused


@pytest.mark.parametrize(
    ("mode", "image_format", "bits"),
    [("1", "PNG", 1), ("L", "PNG", 8), ("I;16", "PNG", 16), ("1", "TIFF", 1), ("I;16", "TIFF", 16), ("F", "TIFF", 32)],
)
def test_the_declared_bits_are_those_of_the_file(mode: str, image_format: str, bits: int) -> None:
    file = io.BytesIO()
    Image.new(mode, (3, 2)).save(file, image_format)
    file.seek(0)
    with open_pillow(file, image_format.lower()) as image:  # type: ignore[arg-type]
        assert declared_bits(image, image_format.lower(), file) == (bits, [])  # type: ignore[arg-type]
        image.load()  # the position in the file is kept


def test_damaged_exif_is_flagged_and_the_image_is_read() -> None:
    file = io.BytesIO()
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(levels).save(file, "PNG", exif=b"Exif\0\0MM\0*damaged")
    file.seek(0)
    flags: list[str] = []
    with open_pillow(file, "png") as image, pytest.warns(UserWarning, match="EXIF"):
        upright = decoded_upright(image, flags)
    assert np.array_equal(np.asarray(upright), levels)


def test_another_format_than_the_sniffed_one_is_a_bad_header() -> None:
    with refused("bad_header", "got SyntaxError; export it again"):
        open_pillow(io.BytesIO(b"BM is not a PNG at all, of course"), "png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_images_are_turned_as_pillow_turns_them(image_format: str, orientation: int) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (16, 24), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(levels).convert("RGB").save(file, image_format, exif=exif, lossless=True)
    image, _ = read_raster(file)
    file.seek(0)
    with Image.open(file) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal((image * 255).round().astype(np.uint8), expected)


def test_an_image_is_turned_whatever_else_is_wrong_in_its_exif() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    file = io.BytesIO()
    Image.new("L", (4, 2)).save(file, "JPEG", exif=exif)
    content = file.getvalue()
    order = "big" if content[content.index(b"Exif") + 6 :].startswith(b"MM") else "little"
    kind = content.index((0x010E).to_bytes(2, order), content.index(b"Exif")) + 2
    turned = 0
    for value in range(20):
        damaged = content[:kind] + value.to_bytes(2, order) + content[kind + 2 :]
        image, record = read_raster(io.BytesIO(damaged))
        # types whose size misplaces the value hide the orientation from Pillow, which warns
        flagged = {"exif_rotated", "bad_exif", "decoder_warning"} & set(record["flags"])
        assert flagged
        assert (image.shape == (3, 4, 2)) == ("exif_rotated" in flagged)
        turned += "exif_rotated" in flagged
    assert turned > 12
