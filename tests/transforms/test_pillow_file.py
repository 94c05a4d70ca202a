"""Opening with one plugin: the declared depth, and damaged EXIF that does not cost the image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from movl_monai.transforms.errors import MedicalImageError
from movl_monai.transforms.pillow_file import declared_bits, decoded_upright, open_pillow
from PIL import Image


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
    with pytest.raises(MedicalImageError, match="got SyntaxError; export it again") as caught:
        open_pillow(io.BytesIO(b"BM is not a PNG at all, of course"), "png")
    assert caught.value.reason == "bad_header"
