from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from movl_monai.metrics.judged import moved_offsets


def _figure(labels: np.ndarray, logits: np.ndarray) -> float:
    return float(balanced_accuracy_score(labels, logits.argmax(axis=1)))


@pytest.mark.parametrize("seed", range(5))
def test_with_two_classes_no_threshold_is_better_on_val(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(60) < 0.3).astype(int)
    logits = rng.normal(size=(60, 2)) + np.eye(2)[labels] + np.array([2.0, 0.0])  # a shift, as of another scanner
    margins = np.sort(logits[:, 1] - logits[:, 0])
    thresholds = [margins[0] - 1, *(margins[1:] + margins[:-1]) / 2, margins[-1] + 1]
    best = max(_figure(labels, logits - [0, threshold]) for threshold in thresholds)
    offsets = moved_offsets(labels, logits)
    assert offsets[0] == 0
    assert _figure(labels, logits + offsets) == pytest.approx(best)
    assert best > _figure(labels, logits)


def test_with_more_classes_a_shift_is_undone() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    plain = rng.normal(size=(300, 3)) * 0.5 + 3 * np.eye(3)[labels]
    shifted = plain + np.array([4.0, 0.0, -2.0])
    assert _figure(labels, shifted) < 0.5
    assert _figure(labels, shifted + moved_offsets(labels, shifted)) > _figure(labels, plain) - 0.01


def test_nothing_moves_where_nothing_is_better_and_for_a_class_without_images() -> None:
    logits = np.array([[3.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert moved_offsets([0, 0, 1], logits).tolist() == [0, 0, 0]
    wrong = np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 2.0, 0.0]])
    offsets = moved_offsets([0, 0, 1], wrong)
    assert offsets[2] == 0
    assert (wrong + offsets).argmax(axis=1).tolist() == [0, 0, 1]
