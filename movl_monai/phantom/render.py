"""Radiograph of one synthetic patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from movl_monai.phantom.anatomy import draw_anatomy, draw_distractors, draw_nodules, render_chest
from movl_monai.phantom.scanner import Scanner, acquire, collimated_field, correlated_noise

__all__ = ["Radiograph", "render"]


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


def render(scanner: Scanner, *, seed: int, patient: int, image: int, lesion: bool, size: int) -> Radiograph:
    """Render an image; the same arguments give the same pixels.

    Anatomy belongs to the patient; pose, exposure, tissue texture, noise, distractors and nodules to the image. The
    nodules are drawn last, so an image with nodules differs from the same image without them only by the nodules and
    the noise.

    Args:
        scanner: the device.
        seed: of the data set, >= 0.
        patient: number of the patient, >= 0.
        image: number of the image of that patient, >= 0.
        lesion: whether there are nodules.
        size: rows and columns, before the scanner's ``matrix_factor``.
    """
    anatomy = draw_anatomy(np.random.default_rng([seed, patient]))
    rng, nodule_rng, detector_rng = (np.random.default_rng([seed, patient, image, stream]) for stream in range(3))
    pixels = round(size * scanner.matrix_factor)
    spacing = scanner.field_mm / pixels
    x, y = _positions(pixels, spacing, rng)
    chest = render_chest(anatomy, x, y, spacing=spacing)
    attenuation = chest.attenuation + draw_distractors(chest.lung, x, y, rng)
    attenuation += scanner.texture * correlated_noise(x.shape, rng) * np.minimum(chest.attenuation, 1)
    if lesion:
        attenuation += draw_nodules(chest.lung, x, y, nodule_rng)
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
