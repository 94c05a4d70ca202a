"""Class weights equal scikit-learn's, and impossible ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from movl_monai.engines import resolve_class_weights
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
