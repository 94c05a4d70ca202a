"""Comparison of adaptation methods on one data set: same images, same search budget, several seeds, one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from movl_monai.lazy import lazy_names

from .arms import Arm, Dimension, Plan, parse_space, read_plan

if TYPE_CHECKING:
    from .data import ComparisonData, TrainingData, choose_images
    from .runs import Result
    from .search import search
    from .statistics import Difference, DomainFigures, compare_results
    from .training import PeakMemory, Training, train_arm

__all__ = [
    "Arm",
    "ComparisonData",
    "Difference",
    "Dimension",
    "DomainFigures",
    "PeakMemory",
    "Plan",
    "Result",
    "Training",
    "TrainingData",
    "choose_images",
    "compare_results",
    "parse_space",
    "read_plan",
    "search",
    "train_arm",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ComparisonData": "data",
        "Difference": "statistics",
        "DomainFigures": "statistics",
        "PeakMemory": "training",
        "Result": "runs",
        "Training": "training",
        "TrainingData": "data",
        "choose_images": "data",
        "compare_results": "statistics",
        "search": "search",
        "train_arm": "training",
    },
)
