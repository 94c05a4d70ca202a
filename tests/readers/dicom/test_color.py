from __future__ import annotations

import numpy as np
import pytest
from pydicom.pixels import convert_color_space

from movl_monai.readers.dicom import read_dicom
from tests.readers.dicom.objects import as_file, grey_object, rgb_object
from tests.readers.refusals import refused

RNG = np.random.default_rng(0)
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def with_palette(
    table: bytes, *, entries: int = 256, first: int = 0, bits: int = 16, segmented: bool = False
) -> object:
    dataset = grey_object(RAMP, photometric="PALETTE COLOR")
    for color in ("Red", "Green", "Blue"):
        keyword = f"{color}PaletteColorLookupTable"
        setattr(dataset, f"{keyword}Descriptor", [entries, first, bits])
        dataset[f"{keyword}Descriptor"].VR = "US"
        setattr(dataset, f"{'Segmented' if segmented else ''}{keyword}Data", table)
    return dataset


def test_ybr_full_becomes_the_rgb_of_pydicom() -> None:
    ybr = RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    expected = convert_color_space(ybr, "YBR_FULL", "RGB").transpose(2, 0, 1) / 255
    image, _ = read_dicom(as_file(rgb_object(ybr, photometric="YBR_FULL")))
    np.testing.assert_allclose(image, expected, atol=0.51 / 255)


def test_ybr_full_of_16_bits_has_its_middle_at_half_the_range() -> None:
    grey = np.full((2, 2, 3), 2**15, dtype=np.uint16)
    grey[..., 0] = [[0, 10000], [40000, 65535]]
    image, _ = read_dicom(as_file(rgb_object(grey, photometric="YBR_FULL")))
    np.testing.assert_allclose(image, np.stack([grey[..., 0] / 65535] * 3), atol=1e-6)


@pytest.mark.parametrize("photometric", ["HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420"])
def test_colour_that_is_not_supported_is_refused(photometric: str) -> None:
    with refused("unsupported_photometric", "PhotometricInterpretation must be one of"):
        read_dicom(as_file(rgb_object(np.zeros((2, 2, 3), dtype=np.uint8), photometric=photometric)))


def test_8_bit_palettes_may_be_packed_or_lie_in_words() -> None:
    packed, _ = read_dicom(as_file(with_palette(bytes(range(256)), bits=8)))
    in_words, _ = read_dicom(as_file(with_palette(np.arange(256, dtype="<u2").tobytes(), bits=8)))
    np.testing.assert_allclose(packed[1], RAMP / 255, atol=1e-6)
    np.testing.assert_array_equal(in_words, packed)


def test_a_16_bit_palette_of_8_bit_values_is_not_shifted_to_black_and_flagged() -> None:
    image, record = read_dicom(as_file(with_palette(np.arange(256, dtype="<u2").tobytes())))
    np.testing.assert_allclose(image[2], RAMP / 255, atol=1e-6)
    assert "palette_of_8_bit_values" in record["flags"]


def test_indices_outside_the_palette_take_the_nearest_colour() -> None:
    table = (np.arange(100, dtype="<u2") << 8).tobytes()
    image, _ = read_dicom(as_file(with_palette(table, entries=100, first=50)))
    np.testing.assert_allclose(image[0] * 255, np.clip(RAMP.astype(int) - 50, 0, 99), atol=1e-4)


def test_a_segmented_palette_is_expanded() -> None:
    table = np.array([0, 1, 0, 1, 255, 255 << 8], dtype="<u2").tobytes()
    image, _ = read_dicom(as_file(with_palette(table, segmented=True)))
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-6)


@pytest.mark.parametrize(
    "dataset",
    [grey_object(RAMP, photometric="PALETTE COLOR"), with_palette(bytes(100)), with_palette(bytes(512), bits=7)],
    ids=["missing", "short", "wrong depth"],
)
def test_a_missing_or_damaged_palette_is_refused(dataset: object) -> None:
    with refused("bad_palette", "it is not so in this file"):
        read_dicom(as_file(dataset))  # type: ignore[arg-type]


def test_samples_that_contradict_the_photometric_interpretation_are_refused() -> None:
    with refused("bad_header", "RGB needs SamplesPerPixel 3, got 1"):
        read_dicom(as_file(grey_object(RAMP, photometric="RGB")))
