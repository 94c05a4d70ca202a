"""Chest of a synthetic patient: the attenuation along the X-ray beam of each pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

__all__ = [
    "Anatomy",
    "Chest",
    "cardiothoracic_ratio",
    "draw_anatomy",
    "draw_consolidation",
    "draw_distractors",
    "draw_effusion",
    "draw_nodules",
    "enlarge_heart",
    "render_chest",
]

_RIBS = 11
_BRANCHES = 26
_BRANCH_STEPS = 70
_Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Anatomy:
    """Parameters of one patient's anatomy; lengths in mm, attenuations are line integrals (no unit).

    The origin is the middle of the chest, x to the right of the image (the patient's left), y downwards.
    """

    thickness: float
    chest_half_width: float
    shoulder_width: float
    diaphragm: tuple[float, float]
    mediastinum_half_width: float
    heart: tuple[float, float, float, float, float]
    rib_spacing: float
    rib_slope: float
    rib_jitter: np.ndarray
    rib_strength: float
    spine_strength: float
    vessel_angles: np.ndarray
    vessel_turns: np.ndarray
    vessel_lengths: np.ndarray
    vessel_strength: float


@dataclass(frozen=True)
class Chest:
    """Rendered chest.

    Args:
        attenuation: line integral of every pixel, float32 (H, W), 0 in air.
        lung: share of the largest lung depth, float32 (H, W) in [0, 1]; a lesion is placed where it is large.
    """

    attenuation: np.ndarray
    lung: np.ndarray


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw the anatomy of a patient."""
    diaphragm = rng.normal(72, 9)
    return Anatomy(
        thickness=rng.normal(1, 0.1),
        chest_half_width=rng.normal(138, 7),
        shoulder_width=rng.normal(42, 8),
        diaphragm=(diaphragm, diaphragm + rng.normal(10, 4)),
        mediastinum_half_width=rng.normal(24, 3),
        heart=(rng.normal(26, 5), rng.normal(46, 6), rng.normal(62, 6), rng.normal(47, 5), rng.normal(0.45, 0.12)),
        rib_spacing=rng.normal(24.5, 1.3),
        rib_slope=rng.normal(0.16, 0.04),
        rib_jitter=rng.normal(0, 1.6, size=(2, _RIBS)),
        rib_strength=rng.uniform(0.2, 0.34),
        spine_strength=rng.uniform(0.2, 0.35),
        vessel_angles=rng.uniform(-1.45, 1.45, size=(2, _BRANCHES)),
        vessel_turns=rng.normal(0, 0.055, size=(2, _BRANCHES, _BRANCH_STEPS)),
        vessel_lengths=rng.uniform(0.35, 1.0, size=(2, _BRANCHES)),
        vessel_strength=rng.uniform(0.14, 0.24),
    )


def cardiothoracic_ratio(anatomy: Anatomy) -> float:
    """Return the largest width of the heart as a share of the largest inner width of the chest."""
    _, _, long, short, angle = anatomy.heart
    return float(np.hypot(long * np.cos(angle), short * np.sin(angle)) / (anatomy.chest_half_width - 8))


def enlarge_heart(anatomy: Anatomy, factor: float) -> Anatomy:
    """Return the anatomy with a heart of ``factor`` times its length and width, which grows to the patient's left."""
    column, row, long, short, angle = anatomy.heart
    moved = column + 0.35 * (factor - 1) * long
    return replace(anatomy, heart=(moved, row, factor * long, factor * short, angle))


def render_chest(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, *, spacing: float) -> Chest:
    """Compute the line integrals through a chest.

    Args:
        anatomy: of the patient.
        x: position of every pixel in the patient, mm, float32 (H, W).
        y: position of every pixel, mm, downwards, float32 (H, W).
        spacing: distance of neighbouring pixels, mm, for the finest structures.
    """
    side = np.abs(x)
    left = x > 0
    lateral = anatomy.chest_half_width * np.sqrt(np.clip(1 - ((y - 40) / 182) ** 2, 0, None)) - 8
    dome_top = np.where(left, np.float32(anatomy.diaphragm[1]), np.float32(anatomy.diaphragm[0]))
    dome = dome_top + 48 * ((side - 62) / 70) ** 2
    lung = _depth(lateral - side, 17) * _depth(side - anatomy.mediastinum_half_width + 2, 15) * _depth(dome - y, 12)
    attenuation = _soft_tissue(anatomy, x, y, dome) - 1.35 * lung
    attenuation += _bones(anatomy, x, y, lateral)
    attenuation += anatomy.vessel_strength * _vessels(anatomy, x, y, spacing) * np.sqrt(lung)
    return Chest(np.maximum(attenuation, 0).astype(np.float32), lung.astype(np.float32))


def _depth(distance: np.ndarray, scale: float) -> np.ndarray:
    """Return the depth of a rounded body, 0 to 1, at a distance (mm) inside its border."""
    return 1 - np.exp(-np.maximum(distance, 0) / scale)


def _soft(value: np.ndarray, scale: float) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(-value / scale, -30, 30)))


def _fourth(value: np.ndarray) -> np.ndarray:
    """Return the fourth power; np.power is many times slower."""
    square = value * value
    return square * square


def _soft_tissue(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, dome: np.ndarray) -> np.ndarray:
    half_width = anatomy.chest_half_width + 22 + anatomy.shoulder_width * _soft(-y - 92, 14)
    relative = np.abs(x) / half_width
    shoulders = y + 168 - 0.0042 * np.square(np.maximum(np.abs(x) - 38, 0))
    body = np.sqrt(np.clip(1 - relative * relative * relative, 0, None)) * _depth(shoulders, 14)
    body = np.maximum(body, 0.85 * _depth(52 - np.abs(x), 16))
    # wider at the great vessels and towards the heart
    width = anatomy.mediastinum_half_width * (1 + 0.12 * np.cos((y + 75) / 24))
    mediastinum = 0.6 * np.exp(-_fourth(x / width))
    column, row, long, short, angle = anatomy.heart
    u = np.cos(angle) * (x - column) + np.sin(angle) * (y - row)
    v = np.cos(angle) * (y - row) - np.sin(angle) * (x - column)
    heart = 0.95 * np.sqrt(np.clip(1 - (u / long) ** 2 - (v / short) ** 2, 0, None))
    aorta = 0.35 * np.sqrt(np.clip(1 - ((x - 22) / 20) ** 2 - ((y + 52) / 19) ** 2, 0, None))
    abdomen = 0.5 * _soft(y - dome, 4)
    # the trachea: a dark column over the mediastinum
    trachea = 0.35 * np.exp(-_fourth(x / 8)) * _soft(-y - 45, 5)
    return anatomy.thickness * (2.1 * body + abdomen * body) + mediastinum + heart + aorta - trachea


def _bones(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    side = np.abs(x)
    inside = _soft(lateral + 9 - side, 2)
    relative = side / anatomy.chest_half_width
    back = y + 122 - anatomy.rib_slope * side - 30 * relative**2
    front = y + 92 + 62 * relative - 18 * relative**2
    ribs = _rib_bands(anatomy, x, back, half_width=4.6) * _soft(side - 20, 3)
    ribs += 0.6 * _rib_bands(anatomy, x, front, half_width=5.2) * _soft(side - 42, 8)
    spine = np.exp(-_fourth(x / 17)) * (1 + 0.3 * np.cos(2 * np.pi * y / 25) - 0.2 * np.cos(4 * np.pi * y / 25))
    collar = np.abs(y + 98 + 0.26 * side + 7 * np.sin(side / 38)) / 5.5
    collar_bone = np.sqrt(np.clip(1 - collar**2, 0, None)) * _soft(side - 14, 2) * _soft(135 - side, 3)
    return anatomy.rib_strength * (ribs * inside + 1.1 * collar_bone) + anatomy.spine_strength * spine


def _rib_bands(anatomy: Anatomy, x: np.ndarray, along: np.ndarray, *, half_width: float) -> np.ndarray:
    """Draw all ribs at once: the nearest rib to every pixel, brighter at its edges like a tube of bone."""
    index = np.rint(along / anatomy.rib_spacing)
    known = (index >= 0) & (index < _RIBS)
    jitter = anatomy.rib_jitter.astype(np.float32)[(x > 0).astype(int), np.clip(index, 0, _RIBS - 1).astype(int)]
    distance = np.abs(along - index * anatomy.rib_spacing - jitter) / half_width
    tube = np.sqrt(np.clip(1 - distance**2, 0, None))
    marrow = np.sqrt(np.clip(0.55 - distance**2, 0, None))
    return np.where(known, 1.5 * tube - 0.8 * marrow, 0)


def _vessels(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, spacing: float) -> np.ndarray:
    """Draw vessels that leave the two hila, bend, and become thinner."""
    step = 1.35
    angle = anatomy.vessel_angles[..., None] + np.cumsum(anatomy.vessel_turns, axis=-1)
    side = np.array([-1.0, 1.0])[:, None, None]
    along_x = side * (27 + np.cumsum(step * np.cos(angle), axis=-1))
    along_y = -6 + np.cumsum(step * np.sin(angle), axis=-1)
    share = np.linspace(0, 1, _BRANCH_STEPS) / anatomy.vessel_lengths[..., None]
    picture = np.zeros(x.shape)
    for first, last, width in ((0, 0.3, 2.6), (0.3, 0.65, 1.7), (0.65, 1, 1.0)):
        chosen = (share >= first) & (share < last)
        drawn = _deposit(along_x[chosen], along_y[chosen], x, y)
        sigma = width / spacing
        # a line of unit points with this distance gets a ridge of about one
        picture += width * ndimage.gaussian_filter(drawn, sigma) * np.sqrt(2 * np.pi) * sigma * step / spacing / 1.7
    return np.minimum(picture, 3)


def _deposit(points_x: np.ndarray, points_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Count points (mm) per pixel; the grid is nearly straight."""
    height, width = x.shape
    # invert the affine map pixel -> mm from three corners
    origin = np.array([x[0, 0], y[0, 0]])
    by_column = np.array([x[0, -1] - x[0, 0], y[0, -1] - y[0, 0]]) / (width - 1)
    by_row = np.array([x[-1, 0] - x[0, 0], y[-1, 0] - y[0, 0]]) / (height - 1)
    columns, rows = np.linalg.solve(
        np.stack([by_column, by_row], axis=1), np.stack([points_x, points_y]) - origin[:, None]
    )
    counts, _, _ = np.histogram2d(
        rows, columns, bins=(height, width), range=((-0.5, height - 0.5), (-0.5, width - 0.5))
    )
    return counts


def draw_nodules(
    lung: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    *,
    count: tuple[int, int] = (2, 4),
    radius: tuple[float, float] = (12, 22),
    strength: tuple[float, float] = (0.65, 1.05),
) -> np.ndarray:
    """Draw nodules with soft borders inside the lungs.

    Args:
        lung: share of the largest lung depth, (H, W) in [0, 1].
        x: position of every pixel, mm, (H, W).
        y: position of every pixel, mm, (H, W).
        rng: random generator.
        count: least and largest number of nodules.
        radius: least and largest radius with the soft border, mm.
        strength: least and largest line integral in the middle of a nodule.

    Returns:
        Line integral to add, float32 (H, W).
    """
    picture = np.zeros(lung.shape, dtype=np.float32)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        drawn = rng.uniform(*radius)
        depth = rng.uniform(*strength)
        _stamp(picture, x, y, _place(lung, rng, least=0.5), depth, 2 * drawn, _nodule(drawn, rng))
    return picture


def draw_effusion(lung: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw fluid at the base of one lung, of a quarter of both: air is replaced below a level that rises laterally.

    Arguments and result are as in :func:`draw_nodules`.
    """
    picture = np.zeros(lung.shape, dtype=np.float32)
    first = rng.choice([-1, 1])
    for side in (first, -first)[: 2 if rng.random() < 0.25 else 1]:
        of_side = np.where(side * x > 0, lung, 0)
        base = y[of_side > 0.25 * lung.max()].max()
        level = base - rng.uniform(28, 75) - 16 * np.square(np.maximum(np.abs(x) - 55, 0) / 50)
        picture += rng.uniform(0.8, 1.25) * of_side * _soft(y - level, 5)
    return picture


def draw_consolidation(lung: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one or two cloudy patches, 56 to 100 mm wide, that end at the border of the lung.

    Arguments and result are as in :func:`draw_nodules`.
    """
    picture = np.zeros(lung.shape, dtype=np.float32)
    for _ in range(rng.integers(1, 3)):
        width = rng.uniform(28, 50)
        _stamp(picture, x, y, _place(lung, rng, least=0.5), rng.uniform(0.7, 1.15), 1.6 * width, _cloud(width, rng))
    return picture * np.sqrt(lung)


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


def _cloud(width: float, rng: np.random.Generator) -> _Shape:
    """Return an oval patch with uneven density and no clear border; about 1 in the middle."""
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    waves = [(*rng.normal(0, 1, size=2) * 2.5 / width, rng.uniform(0, 2 * np.pi)) for _ in range(6)]

    def shape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        distance = np.hypot(along, across / ratio) / width
        uneven = sum(np.cos(to_right * x + down * y + phase) for to_right, down, phase in waves) / len(waves)
        return np.exp(-(distance**3)) * (1 + 0.6 * uneven)

    return shape


def _dot(radius: float) -> _Shape:
    return lambda x, y: np.exp(-(((x**2 + y**2) / radius**2) ** 1.5))


def _scar(rng: np.random.Generator) -> _Shape:
    angle, length, width = rng.uniform(0, np.pi), rng.uniform(9, 18), rng.uniform(1.2, 2.2)

    def shape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        return np.exp(-((along / length) ** 4) - (across / width) ** 2)

    return shape
