"""Names of the methods of prediction sets, and points of risk-coverage curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["METHODS", "risk_at"]

METHODS = {
    "lac": "least ambiguous sets, LAC",
    "aps": "adaptive sets, APS",
    "aps_randomised": "adaptive sets, APS, randomised",
    "lac_per_class": "LAC, a threshold for each class",
    "aps_per_class": "APS, a threshold for each class",
}


def risk_at(part: Mapping[str, Any], share: float) -> float | None:
    """Return the risk at the smallest coverage of a curve that is at least ``share``; None without a curve."""
    coverage = np.asarray(part.get("coverage") or [], dtype=float)
    reached = np.flatnonzero(coverage >= share - 1e-9)
    if not len(reached):
        return None
    value = part["risk"][int(reached[np.argmin(coverage[reached])])]
    return None if value is None else float(value)
