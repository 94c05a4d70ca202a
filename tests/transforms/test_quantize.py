"""The grid k/255: exact round trip, nearest level, one value on every device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from movl_monai.transforms.resize import QuantizeImage, QuantizeImaged, image_to_uint8, uint8_to_image

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_uint8_round_trip_is_exact_for_all_levels() -> None:
    assert torch.equal(image_to_uint8(uint8_to_image(LEVELS)), LEVELS)


def test_uint8_to_image_equals_numpy_float32_division() -> None:
    assert np.array_equal(uint8_to_image(LEVELS).numpy(), LEVELS.numpy().astype(np.float32) / np.float32(255))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_uint8_to_image_has_the_same_bits_on_cuda() -> None:
    assert torch.equal(uint8_to_image(LEVELS.cuda()).cpu(), uint8_to_image(LEVELS))


def test_quantize_image_moves_no_value_by_more_than_half_a_level() -> None:
    image = torch.rand(3, 33, 17)
    quantized = QuantizeImage()(image)
    assert (quantized - image).abs().max() <= 1 / 510 + 1e-7
    assert torch.equal(torch.from_numpy(np.rint(image.numpy() * np.float32(255)) / np.float32(255)), quantized)


def test_quantize_image_is_idempotent_and_keeps_its_input() -> None:
    image = torch.rand(3, 8, 8)
    before = image.clone()
    once = QuantizeImage()(image)
    assert torch.equal(QuantizeImage()(once), once)
    assert torch.equal(image, before)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_quantize_image_refuses_values_outside_the_range(value: float) -> None:
    with pytest.raises(ValueError, match=r"image must be in \[0, 1\], got values from"):
        QuantizeImage()(torch.tensor([0.5, value]))


def test_quantize_image_refuses_integers_and_uint8_to_image_refuses_floats() -> None:
    with pytest.raises(ValueError, match=r"floating and in \[0, 1\], got dtype torch.uint8; see uint8_to_image"):
        QuantizeImage()(LEVELS)
    with pytest.raises(ValueError, match=r"must be uint8, got dtype torch.float32"):
        uint8_to_image(torch.zeros(1))


def test_quantize_image_dictionary_twin_equals_the_array_form() -> None:
    image = np.random.default_rng(0).random((3, 4, 5))
    result = QuantizeImaged("image")({"image": image, "label": 1})
    assert torch.equal(result["image"], QuantizeImage()(image))
    assert result["image"].dtype == torch.float32
    assert result["label"] == 1
