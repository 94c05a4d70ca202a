"""The intensity range of a volume: NumPy's percentiles of the finite values, and volumes without spread."""

from __future__ import annotations

import numpy as np
import pytest

from movl_monai.readers.windows import check_intensity, intensity_range
from tests.readers.refusals import refused

VALUES = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


def test_the_range_is_that_of_numpys_percentiles_of_finite_values() -> None:
    values = np.append(VALUES.ravel(), [np.nan, np.inf, -np.inf])
    assert intensity_range(values, "minmax") == (VALUES.min(), VALUES.max(), ())
    assert intensity_range(values, "percentile", (10, 60))[:2] == tuple(np.percentile(VALUES, (10, 60)))


def test_values_without_spread_are_flagged() -> None:
    assert intensity_range(np.full(9, 4.0), "percentile") == (4, 4, ("constant",))
    assert intensity_range(np.array([0.0] * 999 + [7]), "percentile") == (0, 7, ("percentiles_equal",))


def test_no_finite_value_is_refused() -> None:
    with refused("not_finite", "only NaN"):
        intensity_range(np.array([np.nan, np.inf]), "minmax")


@pytest.mark.parametrize("percentiles", [(5,), (-1, 50), (50, 101), (60, 40), (float("nan"), 99)])
def test_percentiles_that_are_not_two_in_order_are_refused(percentiles: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"percentiles must be \(lower, upper\)"):
        check_intensity("percentile", percentiles)
