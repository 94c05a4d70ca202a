"""Evaluation: figures with intervals, the report of a run, handlers and metrics for MONAI's evaluators."""

from movl_monai.metrics.classification import classification_figures
from movl_monai.metrics.classification_metrics import NonFiniteLogitsError, UndefinedMetricError
from movl_monai.metrics.intervals import (
    PatientBootstrap,
    bootstrap_class_intervals,
    bootstrap_intervals,
    bootstrap_means,
    bootstrap_weights,
    paired_bootstrap,
)
from movl_monai.metrics.masks import mask_figures
from movl_monai.metrics.stored.cases import Case, cases_csv
from movl_monai.metrics.stored.outputs import StoredOutputs, find_outputs, read_outputs, write_outputs
from movl_monai.metrics.stored.predictions import Predictions, predictions_csv, read_predictions
from movl_monai.metrics.weighted import WeightedFigure, WeightedFigures
from movl_monai.networks import trained_state_sha256
from movl_monai.report.figure import draw_figure
from movl_monai.report.html import render_html, write_html
from movl_monai.report.options import ReportOptions
from movl_monai.report.rebuild import rebuild_report
from movl_monai.report.report import build_mask_report, build_report, report_of_outputs, write_report
from movl_monai.report.report_tables import report_scalars, report_tables
from movl_monai.report.table import figure_with_interval, render_table
from movl_monai.report.tasks import report_rows
from movl_monai.runs.provenance import run_info

from .handler import EvaluationReportHandler, MaskWriter, SegmentationReportHandler
from .marked_writer import MarkedPredictionWriter, PredictionWriter
from .trust_record import (
    TRUST_FILE,
    Trusted,
    TrustError,
    TrustRecord,
    decode_trust,
    read_trust,
    trust_record,
    write_trust,
)
from .validation import (
    BalancedAccuracy,
    MacroAUROC,
    MacroFindingAUROC,
    MeanCaseDice,
    MedianQuadraticKappa,
    NegativeBinaryCrossEntropy,
    NegativeCrossEntropy,
    NegativeMAE,
    NegativePixelCrossEntropy,
    NegativeRMSE,
    QuadraticKappa,
    key_metric,
)

mask_report_rows = report_rows  # its old name for masks, kept for one release

__all__ = [
    "BalancedAccuracy",
    "Case",
    "EvaluationReportHandler",
    "MacroAUROC",
    "MacroFindingAUROC",
    "MarkedPredictionWriter",
    "MaskWriter",
    "MeanCaseDice",
    "MedianQuadraticKappa",
    "NegativeBinaryCrossEntropy",
    "NegativeCrossEntropy",
    "NegativeMAE",
    "NegativeRMSE",
    "NegativePixelCrossEntropy",
    "NonFiniteLogitsError",
    "PatientBootstrap",
    "PredictionWriter",
    "Predictions",
    "QuadraticKappa",
    "ReportOptions",
    "SegmentationReportHandler",
    "StoredOutputs",
    "TRUST_FILE",
    "TrustError",
    "TrustRecord",
    "Trusted",
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
    "decode_trust",
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
    "read_trust",
    "rebuild_report",
    "render_html",
    "render_table",
    "report_of_outputs",
    "report_rows",
    "report_scalars",
    "report_tables",
    "run_info",
    "trained_state_sha256",
    "trust_record",
    "write_html",
    "write_outputs",
    "write_report",
    "write_trust",
]
