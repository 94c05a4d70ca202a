"""Blur kernels with subpixel accuracy, and convolution with them."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import fftconvolve

__all__ = ["convolve", "disk_kernel", "line_kernel"]

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
