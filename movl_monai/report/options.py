"""Options of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from movl_monai.errors import ConfigError
from movl_monai.report.entries import ResamplingOptions

__all__ = ["ReportOptions"]

_POINTS = ({"metric": "sensitivity", "at_least": 0.95}, {"metric": "specificity", "at_least": 0.95})


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Settings of a report; all are fixed before any test image is evaluated.

    Args:
        rounds: number of resamples of the intervals, at least 1.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the resampling.
        alpha: share of images whose prediction set may miss the true class, in (0, 1).
        ood_score: score that flags out-of-distribution images; see
            :data:`movl_monai.metrics.ood.detection.SCORES`. None takes the default.
        target_id_kept: share of the val images that its threshold keeps, in (0, 1].
        target_risk: highest error rate on val among the images that are answered, in [0, 1).
        operating_points: targets on val, each ``metric`` ("sensitivity" or "specificity") and ``at_least``, in (0, 1].
        small_group: number of labeled images, and of known patients, below which a group is marked as small.

    Raises:
        ConfigError: if a setting is out of range.

    Example:
        >>> ReportOptions(alpha=0.05).resampling
        {'rounds': 1000, 'level': 0.95, 'seed': 0}
    """

    rounds: int = 1000
    level: float = 0.95
    seed: int = 0
    alpha: float = 0.1
    ood_score: str | None = None
    target_id_kept: float = 0.95
    target_risk: float = 0.05
    operating_points: Sequence[Mapping[str, Any]] = field(default=_POINTS)
    small_group: int = 20

    def __post_init__(self) -> None:
        ranges = {
            "rounds": (self.rounds >= 1, "at least 1"),
            "level": (0 < self.level < 1, "in (0, 1)"),
            "alpha": (0 < self.alpha < 1, "in (0, 1)"),
            "target_id_kept": (0 < self.target_id_kept <= 1, "in (0, 1]"),
            "target_risk": (0 <= self.target_risk < 1, "in [0, 1)"),
            "small_group": (self.small_group >= 1, "at least 1"),
        }
        for name, (holds, expected) in ranges.items():
            if not holds:
                raise ConfigError(f"{name} must be {expected}, got {getattr(self, name)}.")
        for point in self.operating_points:
            if point.get("metric") not in ("sensitivity", "specificity") or not 0 < point.get("at_least", 0) <= 1:
                raise ConfigError(
                    "operating_points must be entries such as {'metric': 'sensitivity', 'at_least': 0.95}, with "
                    f"sensitivity or specificity and a number in (0, 1], got {dict(point)}."
                )

    @property
    def resampling(self) -> ResamplingOptions:
        """``rounds``, ``level`` and ``seed`` as keyword arguments for functions with intervals."""
        return {"rounds": self.rounds, "level": self.level, "seed": self.seed}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> ReportOptions:
        """Return the options of the report of stored outputs, with defaults for missing ones."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in (facts.get("options") or {}).items() if name in known})
