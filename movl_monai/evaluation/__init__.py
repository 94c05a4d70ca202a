"""Evaluation: figures with intervals, the report of a run, handlers and metrics for MONAI's evaluators."""

from .cases import Case, cases_csv
from .checks import NonFiniteLogitsError, UndefinedMetricError
from .classification import classification_figures
from .figure import draw_figure
from .handler import EvaluationReportHandler
from .html import render_html, write_html
from .marked_writer import MarkedPredictionWriter, PredictionWriter
from .mask_handler import MaskWriter, SegmentationReportHandler
from .mask_metrics import mask_figures
from .mask_report import build_mask_report, mask_report_rows
from .mask_validation import MeanCaseDice, NegativePixelCrossEntropy
from .options import ReportOptions
from .outputs import StoredOutputs, find_outputs, read_outputs, write_outputs
from .predictions import Predictions, predictions_csv, read_predictions
from .provenance import run_info
from .rebuild import rebuild_report
from .report import build_report, report_of_outputs, write_report
from .report_tables import report_scalars, report_tables
from .resampling import PatientBootstrap
from .table import figure_with_interval, render_table, report_rows
from .uncertainty import (
    bootstrap_class_intervals,
    bootstrap_intervals,
    bootstrap_means,
    bootstrap_weights,
    paired_bootstrap,
)
from .validation import BalancedAccuracy, MacroAUROC, NegativeCrossEntropy, QuadraticKappa, key_metric
from .weighted import WeightedFigure, WeightedFigures

__all__ = [
    "BalancedAccuracy",
    "Case",
    "EvaluationReportHandler",
    "MacroAUROC",
    "MarkedPredictionWriter",
    "MaskWriter",
    "MeanCaseDice",
    "NegativeCrossEntropy",
    "NegativePixelCrossEntropy",
    "NonFiniteLogitsError",
    "PatientBootstrap",
    "PredictionWriter",
    "Predictions",
    "QuadraticKappa",
    "ReportOptions",
    "SegmentationReportHandler",
    "StoredOutputs",
    "UndefinedMetricError",
    "WeightedFigure",
    "WeightedFigures",
    "bootstrap_class_intervals",
    "bootstrap_intervals",
    "bootstrap_means",
    "bootstrap_weights",
    "build_mask_report",
    "build_report",
    "cases_csv",
    "classification_figures",
    "draw_figure",
    "figure_with_interval",
    "find_outputs",
    "key_metric",
    "mask_figures",
    "mask_report_rows",
    "paired_bootstrap",
    "predictions_csv",
    "read_outputs",
    "read_predictions",
    "rebuild_report",
    "render_html",
    "render_table",
    "report_of_outputs",
    "report_rows",
    "report_scalars",
    "report_tables",
    "run_info",
    "write_html",
    "write_outputs",
    "write_report",
]
