"""Transverse slices of a synthetic thorax in Hounsfield units, as a CT scanner measures them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from movl_monai.phantom.scanner import SCANNERS, correlated_noise

__all__ = ["CT_SCANNERS", "CTScanner", "Lump", "Thorax", "draw_lumps", "draw_thorax", "measure_slice", "render_slice"]

_VESSELS = 14
_AIR, _LUNG, _FAT, _MUSCLE = -1000.0, -860.0, -95.0, 45.0


@dataclass(frozen=True)
class CTScanner:
    """Device and its reconstruction.

    Args:
        model: ManufacturerModelName in its files.
        matrix_factor: rows and columns, as a multiple of the phantom's image size.
        field_mm: side of the square field of view.
        noise: standard deviation in HU.
        noise_mm: grain of the noise.
        blur_mm: standard deviation of the point spread.
        sharpen: strength of the edges that the kernel adds.
        contrast: HU that the contrast medium adds to blood.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        window: WindowCenter and WindowWidth, HU.
    """

    model: str
    matrix_factor: float
    field_mm: float
    noise: float
    noise_mm: float
    blur_mm: float
    sharpen: float
    contrast: float
    slope: float
    intercept: float
    window: tuple[int, int]


CT_SCANNERS = {
    SCANNERS[0].name: CTScanner(
        model="PHANTOM CT A",
        matrix_factor=1.0,
        field_mm=360.0,
        noise=25,
        noise_mm=1.6,
        blur_mm=1.2,
        sharpen=0.0,
        contrast=120,
        slope=1,
        intercept=-1024,
        window=(-400, 1500),
    ),
    SCANNERS[1].name: CTScanner(
        model="PHANTOM CT B",
        matrix_factor=1.25,
        field_mm=420.0,
        noise=110,
        noise_mm=0.9,
        blur_mm=1.6,
        sharpen=1.2,
        contrast=0,
        slope=0.5,
        intercept=-1200,
        window=(-300, 1800),
    ),
}
"""CT scanners by the names of the data set's devices."""


@dataclass(frozen=True)
class Lump:
    """Rounded body in the lung.

    Args:
        x: of its centre, mm, to the patient's left.
        y: of its centre, mm, to the back.
        z: of its centre, mm, to the head.
        radius: in the slice, mm.
        half_height: along z, mm.
        value: HU in its middle.
    """

    x: float
    y: float
    z: float
    radius: float
    half_height: float
    value: float


@dataclass(frozen=True)
class Thorax:
    """Anatomy of one patient; lengths in mm.

    The origin is the middle of the thorax, x to the patient's left, y to the back, z to the head.
    """

    half_width: float
    half_depth: float
    fat: float
    lung_half_width: float
    lung_half_depth: float
    heart: tuple[float, float, float]
    rib_spacing: float
    vessel_directions: np.ndarray
    vessel_radii: np.ndarray
    distractors: tuple[Lump, ...]


def draw_thorax(rng: np.random.Generator) -> Thorax:
    """Draw the anatomy of a patient, with three to eight small calcified or soft dots in the lungs."""
    width, depth = rng.normal(62, 4), rng.normal(80, 5)
    directions = rng.normal(size=(2, _VESSELS, 3)) * (1.0, 1.0, 0.7)
    dots = [_place(rng, (width, depth), z=rng.uniform(-75, 75)) for _ in range(rng.integers(3, 9))]
    return Thorax(
        half_width=rng.normal(160, 7),
        half_depth=rng.normal(112, 6),
        fat=rng.uniform(8, 20),
        lung_half_width=width,
        lung_half_depth=depth,
        heart=(rng.normal(18, 4), rng.normal(-30, 5), rng.normal(-45, 8)),
        rib_spacing=rng.normal(26, 1.5),
        vessel_directions=directions / np.linalg.norm(directions, axis=-1, keepdims=True),
        vessel_radii=rng.uniform(2.2, 4.2, size=(2, _VESSELS)),
        distractors=tuple(
            Lump(x, y, z, rng.uniform(2.5, 4.0), rng.uniform(3, 5), rng.choice([40, 500])) for x, y, z in dots
        ),
    )


def draw_lumps(thorax: Thorax, *, z: float, half_height: float, rng: np.random.Generator) -> tuple[Lump, ...]:
    """Draw one to three lesions at the same height, 20 to 40 mm wide.

    Args:
        thorax: the patient.
        z: of their centres, mm.
        half_height: of all, mm.
        rng: random generator.
    """
    places = [_place(rng, (thorax.lung_half_width, thorax.lung_half_depth), z=z) for _ in range(rng.integers(1, 4))]
    return tuple(Lump(x, y, z, rng.uniform(10, 20), half_height, rng.uniform(0, 60)) for x, y, z in places)


def _place(rng: np.random.Generator, lung: tuple[float, float], *, z: float) -> tuple[float, float, float]:
    """Draw a place inside a lung."""
    angle, share, side = rng.uniform(0, 2 * np.pi), 0.62 * np.sqrt(rng.random()), rng.choice([-1, 1])
    return side * (lung[0] + 14 + share * lung[0] * np.cos(angle)), share * lung[1] * np.sin(angle), z


def render_slice(
    thorax: Thorax, x: np.ndarray, y: np.ndarray, z: float, *, lumps: tuple[Lump, ...] = (), contrast: float = 0
) -> np.ndarray:
    """Compute the Hounsfield units of a slice.

    Args:
        thorax: anatomy of the patient.
        x: position of every column, mm, (W,).
        y: position of every row, mm, (H,).
        z: position of the slice, mm.
        lumps: lesions.
        contrast: HU that the contrast medium adds to blood.

    Returns:
        float32 (H, W).
    """
    x, y = x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]
    blood = _MUSCLE + contrast
    body = _ellipse(x, y, 0, 8, thorax.half_width, thorax.half_depth)
    picture = np.full(body.shape, _AIR, dtype=np.float32)
    _fill(picture, body, _FAT, 3)
    _fill(picture, body - thorax.fat, _MUSCLE, 2)
    size = np.sqrt(max(1 - ((z + 25) / 165) ** 2, 0.05))  # the lungs narrow towards the head
    lungs = [_lung(thorax, x, y, side, size) for side in (-1, 1)]
    _ribs(picture, np.maximum(*lungs), thorax, x, y, z)
    column, row, height = thorax.heart
    heart = _ellipse(x, y, column, row, 58 * _cap(z - height, 62), 46 * _cap(z - height, 62))
    inside = np.maximum(*lungs)
    for side, lung in zip((-1, 1), lungs, strict=True):
        _fill(picture, lung, _LUNG, 2)
        _vessels(picture, thorax, x, y, z, side=side, lung=lung, value=blood)
    for lump in thorax.distractors + lumps:
        _add(picture, lump, x, y, z, inside)
    if heart.max() > 0:
        _fill(picture, heart, blood, 3)
    _fill(picture, _ellipse(x, y, 22, 52, 13, 13), blood, 2)  # the aorta
    _fill(picture, _ellipse(x, y, 0, 72, 22, 19), 260, 2)
    _fill(picture, _ellipse(x, y, 0, 88, 8, 8), 30, 2)  # the spinal canal
    return picture


def _ellipse(x: np.ndarray, y: np.ndarray, column: float, row: float, width: float, depth: float) -> np.ndarray:
    """Return about the distance (mm) inside the border of an ellipse; negative outside."""
    if min(width, depth) < 1:
        return np.full(np.broadcast_shapes(x.shape, y.shape), -1e3, dtype=np.float32)
    distance = np.sqrt(((x - column) / width) ** 2 + ((y - row) / depth) ** 2)
    return (1 - distance) * min(width, depth)


def _cap(distance: float, half_height: float) -> float:
    """Return the relative radius of an ellipsoid at a distance from its middle."""
    return float(np.sqrt(max(1 - (distance / half_height) ** 2, 0)))


def _fill(picture: np.ndarray, inside: np.ndarray, value: float, soft: float) -> None:
    """Replace the picture where the distance inside a border is positive; the border is ``soft`` mm wide."""
    share = np.clip(inside / soft + 0.5, 0, 1)
    picture += share * (value - picture)


def _lung(thorax: Thorax, x: np.ndarray, y: np.ndarray, side: int, size: float) -> np.ndarray:
    width, depth = thorax.lung_half_width * size, thorax.lung_half_depth * size
    return _ellipse(x, y, side * (thorax.lung_half_width + 14), 4, width, depth)


def _ribs(picture: np.ndarray, lung: np.ndarray, thorax: Thorax, x: np.ndarray, y: np.ndarray, z: float) -> None:
    """Draw ribs around the lungs, which fall to the front, so that a slice shows a part of several."""
    phase = (z + 0.45 * y + 0.1 * np.abs(x)) / thorax.rib_spacing
    along = 7 - thorax.rib_spacing * np.abs(phase - np.rint(phase))
    ribs = np.minimum(5 - np.abs(lung + 9), along)
    _fill(picture, np.where(np.abs(x) > 25, ribs, -10), 420, 3)


def _vessels(
    picture: np.ndarray,
    thorax: Thorax,
    x: np.ndarray,
    y: np.ndarray,
    z: float,
    *,
    side: int,
    lung: np.ndarray,
    value: float,
) -> None:
    """Draw straight vessels that leave the hilum and become thinner."""
    index, of_side = (side + 1) // 2, side * x[0] > 0
    columns = np.s_[of_side.argmax() : len(of_side) - of_side[::-1].argmax()]
    picture, lung, x = picture[:, columns], lung[:, columns], x[:, columns]
    for (to_left, to_back, up), radius in zip(thorax.vessel_directions[index], thorax.vessel_radii[index], strict=True):
        to_side = side * np.abs(to_left)
        across_x, across_y = x - side * 30, y - 5
        along = across_x * to_side + across_y * to_back + z * up
        squared = across_x**2 + across_y**2 + z**2 - along**2
        thin = radius * np.clip(1 - along / 110, 0, 1)
        tube = thin - np.sqrt(np.maximum(squared, 0))
        _fill(picture, np.where((along > 0) & (lung > 3), tube, -10), value, 2)


def _add(picture: np.ndarray, lump: Lump, x: np.ndarray, y: np.ndarray, z: float, lung: np.ndarray) -> None:
    """Draw the part of a rounded body that lies in the slice and in a lung."""
    share = 1 - ((z - lump.z) / lump.half_height) ** 4
    if share > 0:
        radius = lump.radius * share**0.25
        distance = radius - np.hypot(x - lump.x, y - lump.y)
        _fill(picture, np.minimum(distance, lung), lump.value, 3)


def measure_slice(picture: np.ndarray, scanner: CTScanner, rng: np.random.Generator, *, spacing: float) -> np.ndarray:
    """Convert Hounsfield units to the stored numbers of a device.

    Args:
        picture: HU, (H, W).
        scanner: the device.
        rng: random generator of the noise.
        spacing: of the pixels, mm.

    Returns:
        uint16 (H, W), 12 bits.
    """
    blurred = ndimage.gaussian_filter(picture, scanner.blur_mm / spacing)
    if scanner.sharpen:
        blurred += scanner.sharpen * (blurred - ndimage.gaussian_filter(blurred, 1.5 * scanner.blur_mm / spacing))
    grain = ndimage.gaussian_filter(rng.standard_normal(picture.shape, dtype=np.float32), scanner.noise_mm / spacing)
    noise = 0.8 * grain / grain.std() + 0.6 * correlated_noise(picture.shape, rng, exponent=1.0)
    stored = (blurred + scanner.noise * noise - scanner.intercept) / scanner.slope
    return np.rint(np.clip(stored, 0, 2**12 - 1)).astype(np.uint16)
