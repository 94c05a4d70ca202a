"""Class weights equal scikit-learn's, and impossible ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from movl_monai.engines import foreground_sample_weights, resolve_class_weights, resolve_mask_weights
from movl_monai.errors import ConfigError, DataError


def test_balanced_weights_equal_scikit_learns() -> None:
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert resolve_class_weights("balanced", labels, 3) == pytest.approx(expected.tolist())


def test_numbers_are_taken_as_they_are_and_none_stays_none() -> None:
    assert resolve_class_weights([1, 2], torch.tensor([0, 1]), 2) == [1.0, 2.0]
    assert resolve_class_weights(None, torch.tensor([0, 1]), 2) is None


def test_impossible_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 numbers in the order of the classes"):
        resolve_class_weights([1.0, 2.0], torch.tensor([0, 1, 2]), 3)
    with pytest.raises(ConfigError, match="got 'balance'"):
        resolve_class_weights("balance", torch.tensor([0, 1]), 2)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="got counts \\[2, 0\\]"):
        resolve_class_weights("balanced", torch.tensor([0, 0]), 2)


def test_balanced_weights_of_masks_are_the_roots_of_scikit_learns() -> None:
    counts = torch.tensor([700, 20, 1])
    labels = np.repeat(np.arange(3), counts.numpy())
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels) ** 0.5
    assert resolve_mask_weights("balanced", counts, ["0", "1", "2"]) == pytest.approx(expected.tolist())
    assert resolve_mask_weights(None, counts, ["0", "1", "2"]) is None
    assert resolve_mask_weights([1, 2, 3], counts, ["0", "1", "2"]) == [1.0, 2.0, 3.0]
    with pytest.raises(ConfigError, match="3 numbers"):
        resolve_mask_weights([1.0], counts, ["0", "1", "2"])


def test_a_class_without_a_training_pixel_is_named() -> None:
    with pytest.raises(DataError, match="a pixel of the class lesion"):
        resolve_mask_weights(None, torch.tensor([100, 0]), ["background", "lesion"])


def test_images_with_foreground_are_drawn_with_the_wanted_share() -> None:
    masks = torch.zeros(10, 4, 4, dtype=torch.uint8)
    masks[:2, 1, 1] = 2
    weights = foreground_sample_weights(masks, 0.6)
    assert weights.sum() == pytest.approx(1)
    assert weights[:2].sum() == pytest.approx(0.6)
    assert len(weights[2:].unique()) == 1
    masks[:8, 1, 1] = 1  # more of them than wanted: nothing is held back
    assert len(foreground_sample_weights(masks, 0.6).unique()) == 1


def test_shares_and_masks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="in \\(0, 1\\), got 1"):
        foreground_sample_weights(torch.ones(2, 2, 2), 1)
    with pytest.raises(DataError, match="No training mask"):
        foreground_sample_weights(torch.zeros(2, 2, 2))
