"""Robustness of networks to corruptions of graded severity, and errors relative to a baseline."""

from .figures import CLEAN, Cell, corruption_errors, mean_over, relative_corruption_errors, robustness_figures
from .report import build_result, robustness_summary, write_result
from .suite import Member, Suite, cells_of, compute_logits, plain_backbone

__all__ = [
    "CLEAN",
    "Cell",
    "Member",
    "Suite",
    "build_result",
    "cells_of",
    "compute_logits",
    "corruption_errors",
    "mean_over",
    "plain_backbone",
    "relative_corruption_errors",
    "robustness_figures",
    "robustness_summary",
    "write_result",
]
