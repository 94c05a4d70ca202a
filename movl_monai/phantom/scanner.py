"""Two X-ray devices with different images of the same chest, and the radiograph of one synthetic patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft, ndimage

from movl_monai.phantom.anatomy import Anatomy, draw_anatomy, draw_distractors, render_chest

__all__ = ["Lesions", "Radiograph", "SCANNERS", "Scanner", "acquire", "collimated_field", "correlated_noise", "render"]

Lesions = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Drawer of lesions: of the lung depth and the positions x and y (mm), each (H, W), and a random generator."""


@dataclass(frozen=True)
class Scanner:
    """Device and its settings.

    Args:
        name: of the device, also the name of its folder.
        model: ManufacturerModelName in its files.
        matrix_factor: rows and columns, as a multiple of the phantom's image size.
        field_mm: side of the square field of view.
        bits: BitsStored.
        photometric: MONOCHROME1 stores bright as low numbers.
        photons: mean number per pixel without a patient; fewer give more noise.
        blur_mm: standard deviation of the detector's point spread.
        scatter: share of scattered photons, which reduce contrast.
        texture: amplitude of correlated structure without anatomical cause.
        contrast: steepness of the display curve.
        bright: attenuation of mid-grey.
        sharpen: strength of the unsharp mask in the device's processing.
        window: WindowCenter and WindowWidth, as shares of the stored range.
        collimation: largest width of the dark border, as a share of the side; 0 for none.
    """

    name: str
    model: str
    matrix_factor: float
    field_mm: float
    bits: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    photons: float
    blur_mm: float
    scatter: float
    texture: float
    contrast: float
    bright: float
    sharpen: float
    window: tuple[float, float]
    collimation: float


SCANNERS = (
    Scanner(
        name="scanner_a",
        model="PHANTOM A",
        matrix_factor=1.0,
        field_mm=350.0,
        bits=12,
        photometric="MONOCHROME2",
        photons=16000,
        blur_mm=0.7,
        scatter=0.10,
        texture=0.04,
        contrast=1.7,
        bright=1.35,
        sharpen=0.0,
        window=(0.54, 0.86),
        collimation=0.0,
    ),
    Scanner(
        name="scanner_b",
        model="PHANTOM B",
        matrix_factor=1.25,
        field_mm=384.0,
        bits=14,
        photometric="MONOCHROME1",
        photons=2500,
        blur_mm=1.8,
        scatter=0.35,
        texture=0.05,
        contrast=1.6,
        bright=1.15,
        sharpen=0.4,
        window=(0.46, 0.8),
        collimation=0.07,
    ),
)


def correlated_noise(shape: tuple[int, int], rng: np.random.Generator, *, exponent: float = 1.6) -> np.ndarray:
    """Draw noise with a power spectrum that falls with frequency, as in tissue on all scales.

    Args:
        shape: (H, W).
        rng: random generator.
        exponent: of the amplitude's decay; larger is smoother.

    Returns:
        float64 (H, W), mean 0, standard deviation 1.
    """
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    # the three longest waves would be gradients over the whole image
    amplitude = np.maximum(frequency, 3 / max(shape)) ** -exponent
    amplitude[0, 0] = 0
    amplitude = amplitude.astype(np.float32)
    noise = fft.irfft2(fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * amplitude, s=shape)
    return noise / noise.std()


def collimated_field(shape: tuple[int, int], scanner: Scanner, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw the first and last row and column (top, bottom, left, right; inclusive) of the collimated field."""
    most = scanner.collimation
    top, bottom, left, right = rng.uniform(most / 3, most, size=4) if most else np.zeros(4)
    return (
        int(top * shape[0]),
        shape[0] - 1 - int(bottom * shape[0]),
        int(left * shape[1]),
        shape[1] - 1 - int(right * shape[1]),
    )


def acquire(
    attenuation: np.ndarray,
    scanner: Scanner,
    rng: np.random.Generator,
    *,
    spacing: float,
    field: tuple[int, int, int, int],
) -> np.ndarray:
    """Convert line integrals to the stored numbers of a device.

    Args:
        attenuation: line integrals, (H, W), 0 in air.
        scanner: the device.
        rng: random generator of exposure, quantum noise and gain.
        spacing: of the pixels, mm.
        field: first and last exposed row and column.

    Returns:
        uint16 (H, W), ``scanner.bits`` bits, in the device's photometric interpretation.
    """
    exposure = scanner.photons * rng.uniform(0.75, 1.3)
    primary = ndimage.gaussian_filter(np.exp(-attenuation), scanner.blur_mm / spacing)
    photons = exposure * (primary + scanner.scatter * primary.mean())
    # enough photons per pixel for the normal approximation of Poisson noise
    photons = photons + np.sqrt(photons) * rng.standard_normal(photons.shape, dtype=np.float32)
    photons *= _gain(photons.shape, rng)
    density = -np.log(np.maximum(photons, 1) / exposure)
    if scanner.sharpen:
        density = density + scanner.sharpen * (density - ndimage.gaussian_filter(density, 6 / spacing))
    shown = 1 / (1 + np.exp(-scanner.contrast * (density - scanner.bright - rng.normal(0, 0.05))))
    top, bottom, left, right = field
    exposed = np.zeros(shown.shape, dtype=bool)
    exposed[top : bottom + 1, left : right + 1] = True
    stored = np.rint(np.where(exposed, shown, 0) * (2**scanner.bits - 1)).astype(np.uint16)
    return 2**scanner.bits - 1 - stored if scanner.photometric == "MONOCHROME1" else stored


def _gain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw the residue of flat-field correction: a slope (heel effect) and a faint pattern of columns."""
    down, across = rng.normal(0, 0.03), rng.normal(0, 0.02)
    slope = down * np.linspace(-1, 1, shape[0])[:, None] + across * np.linspace(-1, 1, shape[1])
    return 1 + slope + 0.002 * rng.standard_normal(shape[1])


@dataclass(frozen=True)
class Radiograph:
    """Stored image of one exposure.

    Args:
        pixels: uint16 (H, W), in the photometric interpretation of the scanner.
        spacing: of the pixels, mm.
        field: first and last row and column (top, bottom, left, right) of the collimated field.
    """

    pixels: np.ndarray
    spacing: float
    field: tuple[int, int, int, int]


def render(
    scanner: Scanner,
    *,
    seed: int,
    patient: int,
    image: int,
    size: int,
    anatomy: Anatomy | None = None,
    lesions: Lesions | None = None,
) -> Radiograph:
    """Render an image; the same arguments give the same pixels.

    Anatomy belongs to the patient; pose, exposure, tissue texture, noise, distractors and lesions to the image. The
    lesions are drawn last, so an image with lesions differs from the same image without them only by the lesions and
    the noise.

    Args:
        scanner: the device.
        seed: of the data set, >= 0.
        patient: number of the patient, >= 0.
        image: number of the image of that patient, >= 0.
        size: rows and columns, before the scanner's ``matrix_factor``.
        anatomy: of the patient; None draws it from the seed.
        lesions: draws the line integrals to add, such as :func:`movl_monai.phantom.anatomy.draw_nodules`.
    """
    anatomy = anatomy or draw_anatomy(np.random.default_rng([seed, patient]))
    rng, lesion_rng, detector_rng = (np.random.default_rng([seed, patient, image, stream]) for stream in range(3))
    pixels = round(size * scanner.matrix_factor)
    spacing = scanner.field_mm / pixels
    x, y = _positions(pixels, spacing, rng)
    chest = render_chest(anatomy, x, y, spacing=spacing)
    attenuation = chest.attenuation + draw_distractors(chest.lung, x, y, rng)
    attenuation += scanner.texture * correlated_noise(x.shape, rng) * np.minimum(chest.attenuation, 1)
    if lesions is not None:
        attenuation += lesions(chest.lung, x, y, lesion_rng)
    field = collimated_field(x.shape, scanner, rng)
    stored = acquire(np.maximum(attenuation, 0), scanner, detector_rng, spacing=spacing, field=field)
    return Radiograph(stored, spacing, field)


def _positions(pixels: int, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of every pixel in the patient, mm: slightly turned, scaled and moved for each image."""
    angle, scale = rng.normal(0, 0.025), rng.normal(1, 0.03)
    to_right, down = rng.normal(0, 5), rng.normal(0, 5)
    along = (np.arange(pixels, dtype=np.float32) - (pixels - 1) / 2) * spacing
    column, row = np.meshgrid(along, along)
    x = (np.cos(angle) * column + np.sin(angle) * row) * scale + to_right
    y = (np.cos(angle) * row - np.sin(angle) * column) * scale + down
    return x.astype(np.float32), y.astype(np.float32)
