"""Rendering: the nodule is the difference, the scanners differ, numbers fit their bits."""

from __future__ import annotations

import numpy as np
import pytest

from movl_monai.phantom.anatomy import Chest, draw_anatomy, draw_distractors, draw_nodules, render_chest
from movl_monai.phantom.scanner import SCANNERS, Scanner, correlated_noise, render

each_scanner = pytest.mark.parametrize("scanner", SCANNERS, ids=[scanner.name for scanner in SCANNERS])


def chest(patient: int = 0) -> tuple[Chest, np.ndarray, np.ndarray]:
    along = (np.arange(128, dtype=np.float32) - 63.5) * 2.7
    x, y = np.meshgrid(along, along)
    return render_chest(draw_anatomy(np.random.default_rng([0, patient])), x, y, spacing=2.7), x, y


@each_scanner
def test_radiograph_has_the_matrix_bits_and_spacing_of_its_scanner(scanner: Scanner) -> None:
    radiograph = render(scanner, seed=0, patient=1, image=1, size=128)
    assert radiograph.pixels.shape == (round(128 * scanner.matrix_factor),) * 2
    assert radiograph.pixels.dtype == np.uint16
    assert radiograph.pixels.max() < 2**scanner.bits
    assert radiograph.spacing == pytest.approx(scanner.field_mm / radiograph.pixels.shape[0])


def test_lesion_makes_a_compact_bright_place_and_leaves_the_rest_to_the_noise() -> None:
    without, with_lesion = (
        render(SCANNERS[0], seed=0, patient=1, image=1, lesions=lesions, size=128).pixels.astype(int)
        for lesions in (None, draw_nodules)
    )
    difference = with_lesion - without
    assert difference.max() > 300
    assert 0.001 < (difference > 150).mean() < 0.12
    assert np.median(np.abs(difference)) < 20


def test_nodules_are_inside_the_lungs() -> None:
    drawn, x, y = chest()
    for seed in range(20):
        picture = draw_nodules(drawn.lung, x, y, np.random.default_rng(seed))
        assert drawn.lung.flat[picture.argmax()] > 0.3


def test_nodules_are_larger_than_the_distractors() -> None:
    drawn, x, y = chest()
    generators = [(np.random.default_rng(seed), np.random.default_rng(seed)) for seed in range(20)]
    nodules = [(draw_nodules(drawn.lung, x, y, first) > 0.1).sum() for first, _ in generators]
    distractors = [(draw_distractors(drawn.lung, x, y, second) > 0.1).sum() for _, second in generators]
    assert np.mean(nodules) > 3 * np.mean(distractors)


def test_chest_is_brightest_at_the_spine_darker_in_the_lungs_and_empty_in_air() -> None:
    drawn, x, y = chest()
    attenuation = drawn.attenuation
    spine = attenuation[(np.abs(x) < 8) & (np.abs(y - 30) < 20)].mean()
    lung = attenuation[drawn.lung > 0.8].mean()
    assert spine > 2 * lung
    assert attenuation[:3, :3].max() < 0.2
    assert attenuation.min() >= 0


def test_patients_differ_more_than_images_of_one_patient() -> None:
    def attenuation(patient: int) -> np.ndarray:
        return chest(patient)[0].attenuation

    np.testing.assert_array_equal(attenuation(1), attenuation(1))
    assert np.abs(attenuation(1) - attenuation(2)).mean() > 0.03


def test_correlated_noise_is_normalised_and_smoother_than_white_noise() -> None:
    noise = correlated_noise((64, 64), np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, abs=1e-5)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    neighbours = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert neighbours > 0.5


def test_scanner_b_is_noisier_in_soft_tissue() -> None:
    roughness = []
    for scanner in SCANNERS:
        pixels = render(scanner, seed=0, patient=1, image=1, size=256).pixels / 2**scanner.bits
        below = pixels[-70:-30, 80:150]
        roughness.append((below[:, 2:] - 2 * below[:, 1:-1] + below[:, :-2]).std())
    assert roughness[1] > 1.3 * roughness[0]
