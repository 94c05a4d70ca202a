"""Nodules, and distractors that resemble them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["draw_distractors", "draw_nodules"]

_Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw_nodules(lung: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw two to four nodules, 24 to 44 mm wide with their soft borders, inside the lungs.

    Args:
        lung: share of the largest lung depth, (H, W) in [0, 1].
        x: position of every pixel, mm, (H, W).
        y: position of every pixel, mm, (H, W).
        rng: random generator.

    Returns:
        Line integral to add, float32 (H, W).
    """
    picture = np.zeros(lung.shape, dtype=np.float32)
    for _ in range(rng.integers(2, 5)):
        radius = rng.uniform(12, 22)
        strength = rng.uniform(0.65, 1.05)
        _stamp(picture, x, y, _place(lung, rng, least=0.5), strength, 2 * radius, _nodule(radius, rng))
    return picture


def draw_distractors(lung: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw structures of any image, with or without nodules: vessels seen end-on, calcified dots, scars.

    Arguments and result are as in :func:`draw_nodules`.
    """
    picture = np.zeros(lung.shape, dtype=np.float32)
    for mean, least, radii, strengths in ((2, 0.35, (2.0, 3.4), (0.15, 0.35)), (0.8, 0.2, (1.2, 2.0), (0.4, 0.8))):
        for _ in range(rng.poisson(mean)):
            radius = rng.uniform(*radii)
            place = _place(lung, rng, least=least)
            _stamp(picture, x, y, place, rng.uniform(*strengths), 2 * radius, _dot(radius))
    if rng.random() < 0.3:
        _stamp(picture, x, y, _place(lung, rng, least=0.3), rng.uniform(0.1, 0.22), 30, _scar(rng))
    return picture


def _place(lung: np.ndarray, rng: np.random.Generator, *, least: float) -> tuple[int, int]:
    """Draw a row and column whose lung depth is at least ``least`` of the largest."""
    candidates = np.flatnonzero(lung > least * lung.max())
    row, column = divmod(int(candidates[rng.integers(len(candidates))]), lung.shape[1])
    return row, column


def _stamp(
    picture: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    place: tuple[int, int],
    strength: float,
    reach: float,
    shape: _Shape,
) -> None:
    """Add a small shape in place; only pixels within ``reach`` mm are computed."""
    row, column = place
    spacing = float(np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]))
    pixels = int(np.ceil(reach / spacing))
    box = np.s_[max(row - pixels, 0) : row + pixels + 1, max(column - pixels, 0) : column + pixels + 1]
    picture[box] += strength * shape(x[box] - x[place], y[box] - y[place])


def _nodule(radius: float, rng: np.random.Generator) -> _Shape:
    """Return a ball with an uneven, soft border; 1 in the middle."""
    waves = [(order, rng.normal(0, 0.06) / np.sqrt(order), rng.uniform(0, 2 * np.pi)) for order in (2, 3, 4, 5)]

    def shape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        angle = np.arctan2(y, x)
        uneven = sum(size * np.cos(order * angle + phase) for order, size, phase in waves)
        distance = np.hypot(x, y) / (radius * (1 + uneven))
        # the depth of a ball, with an edge smeared as by breathing and the border zone of a real nodule
        ball = np.sqrt(np.clip(1 - distance**2, 0, None)) * (1 - 0.35 * distance)
        return 0.7 * ball + 0.3 * np.exp(-1.6 * distance**2)

    return shape


def _dot(radius: float) -> _Shape:
    return lambda x, y: np.exp(-(((x**2 + y**2) / radius**2) ** 1.5))


def _scar(rng: np.random.Generator) -> _Shape:
    angle, length, width = rng.uniform(0, np.pi), rng.uniform(9, 18), rng.uniform(1.2, 2.2)

    def shape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        return np.exp(-((along / length) ** 4) - (across / width) ** 2)

    return shape
