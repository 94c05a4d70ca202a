"""Figures of masks: against short loops, in mm, and for empty masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from movl_monai.metrics.masks import FIGURES, mask_figures


def _blob(shape: tuple[int, ...], *, seed: int) -> np.ndarray:
    """Two classes in overlapping balls."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.indices(shape), axis=-1)
    mask = np.zeros(shape, dtype=np.uint8)
    for number in (1, 2):
        center = np.array(shape) / 2 + generator.uniform(-1.5, 1.5, len(shape))
        mask[np.linalg.norm(grid - center, axis=-1) < (4.5 if number == 1 else 2.5)] = number
    return mask


def _surface(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return positions in mm of the pixels with a direct neighbour outside the mask."""
    padded = np.pad(mask, 1)
    core = tuple(slice(1, -1) for _ in range(mask.ndim))
    inner = padded[core].copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis=axis)[core]
    return np.argwhere(mask & ~inner) * np.array(spacing)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((16, 14), (0.7, 1.3)), ((14, 15, 12), (1.0, 0.5, 2.5)), ((12, 12), (1.0, 1.0))]
)
def test_figures_are_those_of_a_short_loop(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    truth, predicted = _blob(shape, seed=0), _blob(shape, seed=1)
    figures = mask_figures(truth, predicted, num_classes=3, spacing=spacing)
    for number in (1, 2):
        one, other = truth == number, predicted == number
        both = (one & other).sum()
        assert figures["dice"][number - 1] == pytest.approx(2 * both / (one.sum() + other.sum()), abs=1e-6)
        assert figures["iou"][number - 1] == pytest.approx(both / (one | other).sum(), abs=1e-6)
        assert figures["sensitivity"][number - 1] == pytest.approx(both / one.sum())
        assert figures["precision"][number - 1] == pytest.approx(both / other.sum())
        between = cdist(_surface(one, spacing), _surface(other, spacing))
        there, back = between.min(axis=1), between.min(axis=0)
        expected = max(np.percentile(there, 95), np.percentile(back, 95))
        assert figures["hd95"][number - 1] == pytest.approx(expected, rel=1e-4)
        assert figures["asd"][number - 1] == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-4)


def test_distances_are_in_mm_along_each_axis() -> None:
    truth = np.zeros((12, 12, 6), dtype=np.uint8)
    truth[3:6, 3:6, 1:3] = 1
    spacing = (0.5, 2.0, 7.0)
    for axis in range(3):
        moved = np.roll(truth, 1, axis=axis)
        figures = mask_figures(truth, moved, num_classes=2, spacing=spacing)
        assert figures["hd95"][0] == pytest.approx(spacing[axis])


def test_equal_masks_are_perfect_and_the_order_of_axes_changes_nothing() -> None:
    truth, predicted = _blob((13, 11, 9), seed=0), _blob((13, 11, 9), seed=3)
    perfect = mask_figures(truth, truth, num_classes=3)
    assert all((perfect[name] == (0 if name in ("hd95", "asd") else 1)).all() for name in FIGURES)
    spacing = (0.5, 1.0, 2.0)
    plain = mask_figures(truth, predicted, num_classes=3, spacing=spacing)
    turned = mask_figures(truth.T[::-1], predicted.T[::-1], num_classes=3, spacing=spacing[::-1])
    for name in FIGURES:
        np.testing.assert_allclose(turned[name], plain[name], rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_measured_as_the_picture_that_it_is(axis: int) -> None:
    truth, predicted = _blob((16, 14), seed=0), _blob((16, 14), seed=1)
    flat = mask_figures(truth, predicted, num_classes=3, spacing=(0.7, 1.3))
    spacing = [0.7, 1.3]
    spacing.insert(axis, 5.0)
    volume = mask_figures(np.expand_dims(truth, axis), np.expand_dims(predicted, axis), num_classes=3, spacing=spacing)
    for name in FIGURES:
        np.testing.assert_allclose(volume[name], flat[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("in_truth", "in_prediction", "expected"),
    [
        (False, False, {"dice": 1.0, "iou": 1.0}),
        (False, True, {"dice": 0.0, "iou": 0.0, "precision": 0.0}),
        (True, False, {"dice": 0.0, "iou": 0.0, "sensitivity": 0.0}),
    ],
)
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)])
def test_empty_masks_follow_the_stated_rules(
    in_truth: bool, in_prediction: bool, expected: dict[str, float], shape: tuple[int, ...]
) -> None:
    truth, predicted = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    truth[2:4, 2:4] = in_truth
    predicted[3:5, 3:5] = in_prediction
    figures = mask_figures(truth, predicted, num_classes=2)
    for name in FIGURES:
        if name in expected:
            assert figures[name][0] == expected[name]
        else:
            assert np.isnan(figures[name][0])


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(4, 4\) and \(4, 5\)"):
        mask_figures(np.zeros((4, 4)), np.zeros((4, 5)), num_classes=2)
