"""Values of masks: read as they are stored, taken as classes, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from movl_monai.readers import MedicalImageError, mask_classes, read_label_map
from tests.readers.refusals import refused

CLASSES = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)


def _palette(image: Image.Image) -> Image.Image:
    image.putpalette([value for level in (0, 128, 255) for value in (level, 0, 255 - level)])
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(CLASSES),
        Image.merge("RGB", [Image.fromarray(CLASSES)] * 3),
        Image.merge("RGBA", [*[Image.fromarray(CLASSES)] * 3, Image.new("L", (3, 2), 255)]),
        Image.merge("LA", [Image.fromarray(CLASSES), Image.new("L", (3, 2), 255)]),
        Image.fromarray(CLASSES.astype(np.int32)),
        Image.fromarray(CLASSES.astype(np.uint16)),
    ],
    ids=["L", "RGB", "RGBA", "LA", "I", "I;16"],
)
def test_classes_come_as_they_are_stored_whatever_the_pixels(image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "mask.tif")
    assert np.array_equal(read_label_map(tmp_path / "mask.tif"), CLASSES)


def test_indices_into_a_palette_are_the_classes(tmp_path: Path) -> None:
    image = Image.frombytes("P", (3, 2), CLASSES.tobytes())
    _palette(image).save(tmp_path / "mask.png")
    assert np.array_equal(read_label_map(tmp_path / "mask.png"), CLASSES)


def test_one_bit_is_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(CLASSES == 1).save(tmp_path / "mask.png")
    assert np.array_equal(read_label_map(tmp_path / "mask.png"), CLASSES == 1)


def test_colours_are_refused_unless_brightness_is_asked_for(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([CLASSES * 100, CLASSES, CLASSES])).save(tmp_path / "mask.png")
    with refused("mask_values", "a picture in colours"):
        read_label_map(tmp_path / "mask.png")
    assert read_label_map(tmp_path / "mask.png", as_grey=True).shape == (2, 3)


def test_the_mask_is_turned_as_its_image_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(CLASSES).save(tmp_path / "mask.png", exif=exif)
    assert np.array_equal(read_label_map(tmp_path / "mask.png"), np.rot90(CLASSES, -1))


def test_what_is_no_raster_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.txt").write_text("no mask")
    with pytest.raises(MedicalImageError) as caught:
        read_label_map(tmp_path / "mask.txt")
    assert caught.value.reason == "unsupported_format"


def test_stray_values_are_named() -> None:
    with refused("mask_values", r"values 0, 1 for 2 classes, got also 3, 255; .*mask_threshold"):
        mask_classes(np.array([0, 1, 255, 3]), num_classes=2)
    many = np.arange(2, 40)
    with pytest.raises(MedicalImageError, match="and 27 more"):
        mask_classes(many, num_classes=5)
    with pytest.raises(MedicalImageError, match="got also 0.5"):
        mask_classes(np.array([0.0, 0.5, 1.0]), num_classes=2)
    with pytest.raises(MedicalImageError, match="got also -1"):
        mask_classes(np.array([-1, 0]), num_classes=2)
    with pytest.raises(MedicalImageError, match="NaN or infinite"):
        mask_classes(np.array([0.0, np.nan]), num_classes=2, threshold=0.5)


def test_a_threshold_and_a_list_of_values_make_classes() -> None:
    values = np.array([0, 17, 127, 128, 255])
    assert mask_classes(values, num_classes=2, threshold=128).tolist() == [0, 0, 0, 1, 1]
    assert mask_classes(np.array([4, 0, 9]), num_classes=3, mask_values=[4, 9, 0]).tolist() == [0, 2, 1]
    assert mask_classes(np.array([1.0, 0.0]), num_classes=2).dtype == np.uint8


def test_a_jpeg_mask_of_the_real_set_needs_the_threshold(test_data: Path) -> None:
    path = next((test_data / "data/kvasir_seg/test/masks").iterdir())
    values = read_label_map(path)
    with pytest.raises(MedicalImageError, match="mask_threshold"):
        mask_classes(values, num_classes=2)
    classes = mask_classes(values, num_classes=2, threshold=128)
    assert 0 < classes.mean() < 1
