"""Resizing: Pillow's pixels, the aspect ratio kept or not as set, values in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from movl_monai.transforms.resize import Interpolation, ResizeImage, ResizeImaged, ResizeMode

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("size", [(16, 24), (64, 50), (101, 7)])
def test_resize_image_equals_pillow_on_float_images_with_antialias(size: tuple[int, int]) -> None:
    image = torch.rand(3, 60, 45)
    result = ResizeImage(size)(image)
    for channel, expected in zip(result, image, strict=True):
        pillow = Image.fromarray(expected.numpy()).resize(size[::-1], RESAMPLING["bilinear"])
        np.testing.assert_allclose(channel.numpy(), np.asarray(pillow), atol=1e-5)


def test_resize_image_bicubic_equals_pillow_and_is_clamped() -> None:
    image = torch.zeros(1, 30, 30)
    image[:, 10:20] = 1
    pillow = np.asarray(Image.fromarray(image[0].numpy()).resize((75, 75), RESAMPLING["bicubic"]))
    result = ResizeImage(75, interpolation="bicubic")(image)[0].numpy()
    assert pillow.max() > 1.01
    # Pillow uses a = -0.5 throughout, torch does so with antialias
    np.testing.assert_allclose(result, pillow.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(3, 31, 64), (3, 64, 31), (1, 1, 5000), (3, 20, 20)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest-exact"])
def test_resize_image_gives_the_size_and_the_range(
    mode: ResizeMode, shape: tuple[int, int, int], interpolation: Interpolation
) -> None:
    result = ResizeImage((20, 28), mode=mode, interpolation=interpolation)(torch.rand(shape))
    assert result.shape == (shape[0], 20, 28)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_pad_keeps_the_aspect_ratio_and_centers() -> None:
    result = ResizeImage(8, mode="pad")(torch.ones(3, 40, 20))
    torch.testing.assert_close(result[:, :, 2:6], torch.ones(3, 8, 4))
    assert result[:, :, :2].sum() + result[:, :, 6:].sum() == 0


def test_crop_keeps_the_aspect_ratio_and_the_center() -> None:
    image = torch.zeros(1, 20, 40)
    image[:, :, 10:30] = 1
    assert torch.equal(ResizeImage(10, mode="crop", interpolation="nearest-exact")(image), torch.ones(1, 10, 10))


def test_resize_image_to_its_own_size_changes_nothing() -> None:
    image = torch.rand(3, 12, 9)
    assert torch.equal(ResizeImage((12, 9))(image), image)


def test_without_antialias_a_fine_pattern_is_aliased() -> None:
    stripes = torch.arange(64).remainder(2).float().expand(1, 64, 64)
    assert (ResizeImage(16)(stripes) - 0.5).abs()[:, 2:-2, 2:-2].max() < 0.05
    assert torch.equal(ResizeImage(32, interpolation="nearest-exact")(stripes), torch.ones(1, 32, 32))
    assert (ResizeImage(22, antialias=False)(stripes) - 0.5).abs().max() > 0.4


@pytest.mark.parametrize("image_size", [0, -1, (3,), (1, 2, 3), (224, 0.5)])
def test_resize_image_refuses_an_impossible_size(image_size: object) -> None:
    with pytest.raises(ValueError, match="image_size must be one or two"):
        ResizeImage(image_size)  # type: ignore[arg-type]


def test_resize_image_refuses_unknown_options_and_wrong_images() -> None:
    with pytest.raises(ValueError, match=r"mode must be one of stretch, pad, crop, got 'squash'"):
        ResizeImage(8, mode="squash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"interpolation must be one of bilinear.* got 'area'"):
        ResizeImage(8, interpolation="area")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"floating \(C, H, W\) .* got torch.uint8 \(3, 4, 4\)"):
        ResizeImage(8)(torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"got torch.float32 \(4, 4\)"):
        ResizeImage(8)(torch.zeros(4, 4))


def test_resize_image_dictionary_twin_equals_the_array_form() -> None:
    image = torch.rand(3, 12, 9)
    result = ResizeImaged("image", [6, 7], mode="crop", interpolation="bicubic")({"image": image, "label": 0})
    assert torch.equal(result["image"], ResizeImage((6, 7), mode="crop", interpolation="bicubic")(image))
    assert result["label"] == 0
