"""The loop that the bootstrap is timed against computes the same intervals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.bootstrap_speed import intervals_by_scikit_learn, stored_predictions
from movl_monai.evaluation import bootstrap_intervals
from movl_monai.metrics.weighted import METRICS
from tests.benchmarks.settings import tiny_settings


@pytest.mark.parametrize("num_classes", [2, 3])
def test_both_give_the_same_intervals_of_all_figures(num_classes: int) -> None:
    stored = stored_predictions(tiny_settings(), num_classes=num_classes)
    expected = intervals_by_scikit_learn(stored, METRICS, rounds=20)
    found = bootstrap_intervals(stored.labels, stored.logits, patients=stored.patients, rounds=20)["intervals"]
    for metric in METRICS:
        np.testing.assert_allclose(found[metric], expected[metric], atol=1e-9)


@pytest.mark.parametrize("change", [{"sklearn_rounds": 0}, {"bootstrap_rounds": 0}, {"sklearn_rounds": 21}])
def test_rounds_that_cannot_be_scaled_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"sizes and rounds must be at least 1|sklearn_rounds must be"):
        dataclasses.replace(tiny_settings(), **change)
