"""Blur with subpixel accuracy: soft, out of focus, or along a line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = [
    "BlurDefocus",
    "BlurDefocusd",
    "BlurGaussian",
    "BlurGaussiand",
    "BlurMotion",
    "BlurMotiond",
    "convolve",
    "disk_kernel",
    "line_kernel",
]

_FINE = 9  # subpixels along each side of a pixel; odd, so that one lies on its center


def disk_kernel(radius: float) -> np.ndarray:
    """Return the share of a disk in each pixel: (2 r + 1, 2 r + 1) with sum 1, r the radius rounded up.

    Args:
        radius: in pixels, > 0.

    Example:
        >>> disk_kernel(0.4).round(2).tolist(), disk_kernel(1.5).shape
        ([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], (5, 5))
    """
    half = math.ceil(radius)
    count = (2 * half + 1) * _FINE
    along = (np.arange(count) - (count - 1) / 2) / _FINE
    inside = (along[:, None] ** 2 + along[None, :] ** 2 <= radius**2).astype(np.float64)
    return _pixels(inside)


def line_kernel(length: float, angle: float) -> np.ndarray:
    """Return the share of a line in each pixel: odd, square, with sum 1 and its center of mass in the middle.

    Each point along the line is distributed bilinearly over its four pixels, so that every angle and length has its own
    kernel.

    Args:
        length: in pixels, > 0.
        angle: in radians, 0 along the rows, positive turning counterclockwise.

    Example:
        >>> line_kernel(2.0, 0.0).round(2).tolist()
        [[0.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 0.0]]
    """
    half = math.ceil(length / 2)
    count = max(2, math.ceil(length * _FINE)) * 2
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    rows, columns = half - along * math.sin(angle), half + along * math.cos(angle)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
            inside = weight > 0  # neighbours beyond the end of a line have no weight
            np.add.at(kernel, (top[inside] + down, left[inside] + right), weight[inside])
    return kernel / kernel.sum()


def convolve(pixels: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
    """Convolve every channel of (C, H, W) with a kernel; the border values extend beyond the image.

    Example:
        >>> convolve(torch.ones(1, 2, 3), np.full((3, 3), 1 / 9)).round(decimals=4).tolist()
        [[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]
    """
    half = kernel.shape[0] // 2
    padded = np.pad(pixels.numpy().astype(np.float64), ((0, 0), (half, half), (half, half)), mode="edge")
    return torch.from_numpy(fftconvolve(padded, kernel[None], mode="valid", axes=(1, 2)))


def _pixels(fine: np.ndarray) -> np.ndarray:
    side = fine.shape[0] // _FINE
    coarse = fine.reshape(side, _FINE, side, _FINE).sum(axis=(1, 3))
    return coarse / coarse.sum()


class BlurGaussian(Corruption):
    """Blur with a Gaussian whose standard deviation is from 0.4 to 2.7 % of the image's shorter side.

    The border values extend beyond the image.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (1 to 6 of 224 pixels).

    Example:
        >>> image = torch.zeros(3, 101, 101)
        >>> image[:, 50, 50] = 1
        >>> blurred = BlurGaussian(severity=5)(image)
        >>> round(blurred[0].sum().item(), 3), round(1 / (2 * torch.pi * blurred[0, 50, 50].item()) ** 0.5, 1)
        (1.0, 2.7)
    """

    name = "gaussian_blur"
    parameters = (0.004, 0.008, 0.013, 0.019, 0.027)
    meaning = "standard deviation, of the shorter side"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        sigma = parameter * min(pixels.shape[1:])
        return torch.from_numpy(gaussian_filter(pixels.numpy(), sigma=(0, sigma, sigma), mode="nearest"))


class BlurGaussiand(Corruptiond):
    """Dictionary twin of :class:`BlurGaussian`."""

    corruption = BlurGaussian


class BlurDefocus(Corruption):
    """Blur with a disk whose radius is from 0.8 to 4.2 % of the image's shorter side.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: unused; the corruption is deterministic.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (3 to 10 of 224 pixels). Deviation: the disk is exact below the size of a
        pixel instead of smoothed.

    Example:
        >>> image = torch.zeros(3, 100, 100)
        >>> image[:, 50, 50] = 1
        >>> blurred = BlurDefocus(severity=5)(image)[0]
        >>> round((1 / (torch.pi * blurred[50, 50].item())) ** 0.5, 1), blurred[50, 56].item() < 1e-6
        (4.2, True)
    """

    name = "defocus"
    parameters = (0.008, 0.014, 0.021, 0.03, 0.042)
    meaning = "radius, of the shorter side"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        return convolve(pixels, disk_kernel(parameter * min(pixels.shape[1:])))


class BlurDefocusd(Corruptiond):
    """Dictionary twin of :class:`BlurDefocus`."""

    corruption = BlurDefocus


class BlurMotion(Corruption):
    """Average the image over a straight, uniform movement in a direction drawn for each image.

    The length of the movement is from 1.5 to 12 % of the image's shorter side. It models movement during a projection
    or a photograph, not movement in magnetic resonance, which mixes parts of k-space and leaves ghosts.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the direction.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        Hendrycks, Dietterich, ICLR 2019 (10 to 20 of 224 pixels); Pérez-García et al., TorchIO, 2021, for movement in
        magnetic resonance, which is not modelled here.

    Example:
        >>> image = torch.zeros(3, 100, 100)
        >>> image[:, 50, 50] = 1
        >>> blurred = BlurMotion(severity=5)(image, "an id")[0]
        >>> round(blurred.sum().item(), 3), bool(torch.allclose(blurred[1:, 1:], blurred[1:, 1:].flip(0, 1), atol=1e-6))
        (1.0, True)
    """

    name = "motion"
    parameters = (0.015, 0.03, 0.05, 0.08, 0.12)
    meaning = "length of the way, of the shorter side"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        angle = generator.uniform(0, np.pi)
        return convolve(pixels, line_kernel(parameter * min(pixels.shape[1:]), angle))


class BlurMotiond(Corruptiond):
    """Dictionary twin of :class:`BlurMotion`."""

    corruption = BlurMotion
