"""Each corruption against its formula, and the same part of the image at another image size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve as scipy_convolve

from movl_monai.transforms.corruptions import CORRUPTIONS
from movl_monai.transforms.corruptions.blur import convolve, disk_kernel, line_kernel


def flat(value: float, size: int = 128) -> torch.Tensor:
    return torch.full((3, size, size), value)


def point(size: int) -> torch.Tensor:
    image = torch.zeros(3, size, size)
    image[:, size // 2, size // 2] = 1
    return image


def spread(image: torch.Tensor) -> np.ndarray:
    """Standard deviations along rows and columns of the first channel, as a share of the image's side."""
    weights = image[0].double().numpy()
    size = weights.shape[0]
    rows, columns = np.mgrid[:size, :size]
    total = weights.sum()
    means = (rows * weights).sum() / total, (columns * weights).sum() / total
    squares = [((axis - mean) ** 2 * weights).sum() / total for axis, mean in zip((rows, columns), means, strict=True)]
    return np.sqrt(squares) / size


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gaussian_noise_has_its_deviation(severity: int) -> None:
    sigma = CORRUPTIONS["gaussian_noise"].parameters[severity - 1]
    noise = CORRUPTIONS["gaussian_noise"](severity=severity)(flat(0.5), "a")[0] - 0.5
    expected = torch.randn(200_000).mul(sigma).clamp(-0.5, 0.5).std().item()
    assert noise.std().item() == pytest.approx(expected, rel=0.03)
    assert abs(noise.mean().item()) < 0.01


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("level", [0.1, 0.4])
def test_quantum_noise_has_the_mean_and_variance_of_counts(severity: int, level: float) -> None:
    quanta = CORRUPTIONS["quantum_noise"].parameters[severity - 1]
    noisy = CORRUPTIONS["quantum_noise"](severity=severity)(flat(level), "a")[0]
    assert noisy.mean().item() == pytest.approx(level, rel=0.05)
    assert noisy.var().item() == pytest.approx(level / quanta, rel=0.1)
    assert torch.equal(CORRUPTIONS["quantum_noise"](severity=severity)(flat(0.0), "a"), flat(0.0))


@pytest.mark.parametrize("size", [128, 257])
def test_gaussian_blur_and_defocus_spread_a_point_by_the_same_share_of_every_size(size: int) -> None:
    sigma = CORRUPTIONS["gaussian_blur"].parameters[4]
    np.testing.assert_allclose(spread(CORRUPTIONS["gaussian_blur"](severity=5)(point(size))), sigma, rtol=0.02)
    radius = CORRUPTIONS["defocus"].parameters[4]
    # a disk has the standard deviation r / 2 along each axis
    np.testing.assert_allclose(spread(CORRUPTIONS["defocus"](severity=5)(point(size))), radius / 2, rtol=0.05)


@pytest.mark.parametrize("size", [128, 257])
def test_motion_spreads_a_point_along_a_line_of_its_length(size: int) -> None:
    length = CORRUPTIONS["motion"].parameters[4]
    for image_id in "abc":
        down, right = spread(CORRUPTIONS["motion"](severity=5)(point(size), image_id))
        assert math.hypot(down, right) == pytest.approx(length / math.sqrt(12), rel=0.03)


def test_motions_of_different_images_have_different_directions() -> None:
    ways = [spread(CORRUPTIONS["motion"](severity=5)(point(128), str(number))) for number in range(8)]
    angles = [math.atan2(down, right) for down, right in ways]
    assert max(angles) - min(angles) > 0.8


def test_kernels_sum_to_one_are_centered_and_as_wide_as_they_say() -> None:
    for kernel in (disk_kernel(0.3), disk_kernel(3.7), line_kernel(0.4, 1.0), line_kernel(7.3, 2.5)):
        assert kernel.sum() == pytest.approx(1)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    # the disk is even inside: the inverse of its value is the area
    assert disk_kernel(3.7).max() == pytest.approx(1 / (math.pi * 3.7**2), rel=0.02)
    np.testing.assert_allclose(line_kernel(4, 0.0), line_kernel(4, math.pi / 2).T, atol=1e-12)


def test_convolution_equals_scipys() -> None:
    image = torch.rand(3, 20, 31)
    kernel = np.random.default_rng(0).random((5, 5))
    for channel, result in zip(image, convolve(image, kernel), strict=True):
        np.testing.assert_allclose(result, scipy_convolve(channel.double().numpy(), kernel, mode="nearest"), atol=1e-10)


def test_contrast_is_kept_around_the_mean() -> None:
    image = torch.rand(1, 16, 16).expand(3, -1, -1)
    expected = image.mean() + 0.5 * (image - image.mean())
    torch.testing.assert_close(CORRUPTIONS["contrast"](severity=3)(image), expected, rtol=0, atol=1e-6)


def test_gamma_is_a_power_that_darkens_some_images_and_brightens_others() -> None:
    image = torch.rand(3, 8, 8)
    powers = set()
    for number in range(12):
        result = CORRUPTIONS["gamma"](severity=2)(image, str(number))
        (power,) = (p for p in (math.exp(0.3), math.exp(-0.3)) if torch.allclose(result, image**p, atol=1e-6))
        powers.add(power > 1)
    assert powers == {True, False}


def test_jpeg_of_low_quality_has_flat_blocks_of_eight_pixels() -> None:
    image = (0.5 + 0.02 * torch.randn(1, 64, 64)).clamp(0, 1).expand(3, -1, -1)
    result = CORRUPTIONS["jpeg"](severity=5)(image)[0]
    blocks = result.unfold(0, 8, 8).unfold(1, 8, 8)
    assert (blocks.flatten(2).std(dim=2) < 1e-6).all()


def test_resampling_leaves_a_plane_and_loses_stripes() -> None:
    plane = torch.linspace(0.2, 0.8, 128).expand(3, 128, 128)
    result = CORRUPTIONS["resampling"](severity=5)(plane)
    torch.testing.assert_close(result[:, :, 16:-16], plane[:, :, 16:-16], rtol=0, atol=0.01)
    stripes = (torch.arange(128) % 2).float().expand(3, 128, 128)
    assert CORRUPTIONS["resampling"](severity=5)(stripes)[:, :, 16:-16].std() < 0.05


def test_text_is_white_near_the_upper_or_lower_border_and_grows_by_adding() -> None:
    dark = flat(0.2)
    for image_id in "abcd":
        shares = []
        for severity in range(1, 6):
            result = CORRUPTIONS["text"](severity=severity)(dark, image_id)[0]
            changed = result > 0.2
            assert result.max() > 0.7
            assert not changed[50:78].any()  # the middle, where the findings are
            shares.append(changed.float().mean().item())
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] < 0.25


def test_text_is_as_large_a_part_of_a_larger_image() -> None:
    shares = [
        (CORRUPTIONS["text"](severity=5)(flat(0.0, size), "a") > 0.5).float().mean().item() for size in (128, 384)
    ]
    assert shares[0] == pytest.approx(shares[1], rel=0.15)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_the_field_of_view_is_a_rectangle_of_untouched_pixels(severity: int) -> None:
    image = torch.rand(3, 100, 50) * 0.9 + 0.1
    dark = CORRUPTIONS["field_of_view"].parameters[severity - 1]
    fields = set()
    for image_id in "abcdef":
        result = CORRUPTIONS["field_of_view"](severity=severity)(image, image_id)
        seen = result[0] > 0
        rows, columns = (np.flatnonzero(seen.any(dim=axis)) for axis in (1, 0))
        assert (len(rows), len(columns)) == (100 - round(100 * dark), 50 - round(50 * dark))
        field = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        assert torch.equal(result[field], image[field])
        assert result.count_nonzero() == image[field].numel()
        fields.add((rows[0], columns[0]))
    assert len(fields) > 1
