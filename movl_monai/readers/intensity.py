"""Intensity range of a volume: one mapping to black and white for all its slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from movl_monai.readers.errors import MedicalImageError

__all__ = ["Intensity", "check_intensity", "intensity_range"]

Intensity = Literal["percentile", "minmax", "ct"]
"""The range between two percentiles, between minimum and maximum, or fixed windows of values in HU."""


def intensity_range(
    values: np.ndarray, intensity: Intensity, percentiles: Sequence[float] = (0.5, 99.5)
) -> tuple[float, float, tuple[str, ...]]:
    """Return the (low, high) values of a volume that become 0 and 1, and flags.

    NaN and infinite values are ignored. If the two percentiles are equal, as in volumes of mostly background, the
    minimum and maximum are used and flagged ``percentiles_equal``. A constant volume is flagged ``constant``.

    Args:
        values: any shape.
        intensity: ``"percentile"`` or ``"minmax"``.
        percentiles: (lower, upper) in percent.

    Raises:
        MedicalImageError: ``not_finite`` if there is no finite value.

    Example:
        >>> intensity_range(np.arange(201.0), "percentile")
        (1.0, 199.0, ())
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise MedicalImageError("Expected finite values, got only NaN or infinite ones.", reason="not_finite")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return low, high, ("constant",)
    if intensity == "minmax":
        return low, high, ()
    lower, upper = (float(value) for value in np.percentile(finite, percentiles))
    return (lower, upper, ()) if upper > lower else (low, high, ("percentiles_equal",))


def check_intensity(intensity: Intensity, percentiles: Sequence[float]) -> None:
    """Check an intensity mapping and its percentiles.

    Raises:
        ValueError: for an unknown mapping, or percentiles that are not two in ascending order.
    """
    if intensity not in get_args(Intensity):
        raise ValueError(f"intensity must be one of {', '.join(get_args(Intensity))}, got {intensity!r}.")
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"percentiles must be (lower, upper) with 0 <= lower < upper <= 100, got {percentiles!r}.")
