"""Scaling of values to [0, 1] and the modes that cannot be images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from movl_monai.readers.pixels import grey_to_rgb, raster_pixels, scale_values
from tests.readers.refusals import refused


def test_scale_values_clamps_and_is_exact_for_whole_32_bit_numbers() -> None:
    values = np.array([-(2**31), 0, 2**31 - 1], dtype=np.int32)
    scaled = scale_values(values, -(2**31), 2**31 - 1)
    np.testing.assert_allclose(scaled, [0, 0.5, 1], atol=1e-9)
    assert scale_values(np.array([-3e38, 3e38], dtype=np.float32), -3e38, 3e38).tolist() == [0, 1]


@pytest.mark.parametrize(("low", "high"), [(5, 5), (5, 4)])
def test_an_empty_range_gives_black(low: float, high: float) -> None:
    assert scale_values(np.arange(9.0), low, high).max() == 0


def test_grey_to_rgb_owns_its_memory() -> None:
    grey = np.zeros((2, 3), dtype=np.float32)
    rgb = grey_to_rgb(grey)
    rgb[0, 0, 0] = 1
    assert rgb.flags.c_contiguous
    assert grey[0, 0] == rgb[1, 0, 0] == 0


def test_modes_without_rgb_are_refused() -> None:
    with refused("unsupported_format", "got pixels of mode LAB"):
        raster_pixels(Image.new("LAB", (2, 2)), bits=8, white_is_zero=False, value_range=None, flags=[])


@pytest.mark.parametrize(("mode", "size"), [("La", 1), ("RGBa", 3)])
def test_premultiplied_alpha_is_composited_on_black_as_it_is(mode: str, size: int) -> None:
    flags: list[str] = []
    pixel = (60, 120) if size == 1 else (60, 30, 0, 120)
    result = raster_pixels(Image.new(mode, (1, 1), pixel), bits=8, white_is_zero=False, value_range=None, flags=flags)
    expected = [60] * 3 if size == 1 else [60, 30, 0]
    np.testing.assert_allclose(result[:, 0, 0] * 255, expected, atol=1)
    assert flags == ["alpha_on_black"]
