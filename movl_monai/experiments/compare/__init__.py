"""Comparison of adaptation methods on one data set: same images, same search budget, several seeds, one table."""

from .arms import Arm, Dimension, Plan, parse_space, read_plan
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
