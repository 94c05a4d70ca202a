"""Evaluation: figures with intervals, the report of a run, handlers and metrics for MONAI's evaluators."""

from .checks import NonFiniteLogitsError, UndefinedMetricError
from .classification import classification_figures
from .figure import draw_figure
from .handler import EvaluationReportHandler, PredictionWriter
from .html import render_html, write_html
from .predictions import Predictions, predictions_csv, read_predictions
from .provenance import run_info
from .report import build_report, write_report
from .table import figure_with_interval, render_table, report_rows
from .uncertainty import bootstrap_intervals, bootstrap_weights, paired_bootstrap
from .validation import BalancedAccuracy, MacroAUROC, NegativeCrossEntropy, QuadraticKappa, key_metric
from .weighted import WeightedFigure

__all__ = [
    "BalancedAccuracy",
    "EvaluationReportHandler",
    "MacroAUROC",
    "NegativeCrossEntropy",
    "NonFiniteLogitsError",
    "PredictionWriter",
    "Predictions",
    "QuadraticKappa",
    "UndefinedMetricError",
    "WeightedFigure",
    "bootstrap_intervals",
    "bootstrap_weights",
    "build_report",
    "classification_figures",
    "draw_figure",
    "figure_with_interval",
    "key_metric",
    "paired_bootstrap",
    "predictions_csv",
    "read_predictions",
    "render_html",
    "render_table",
    "report_rows",
    "run_info",
    "write_html",
    "write_report",
]
