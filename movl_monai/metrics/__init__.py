"""Figures from stored predictions, with intervals: pure functions on arrays."""

from movl_monai.metrics.calibration import TemperatureFit, calibration_report, fit_temperature, reliability_bins
from movl_monai.metrics.classification import classification_figures
from movl_monai.metrics.classification_metrics import NonFiniteLogitsError, UndefinedMetricError
from movl_monai.metrics.conformal import (
    ConformalFit,
    binomial_interval,
    conformal_report,
    conformal_scores,
    conformal_threshold,
    fit_conformal,
    one_per_patient,
    set_figures,
    smallest_alpha,
)
from movl_monai.metrics.intervals import (
    PatientBootstrap,
    bootstrap_class_intervals,
    bootstrap_intervals,
    bootstrap_means,
    bootstrap_weights,
    paired_bootstrap,
)
from movl_monai.metrics.masks import mask_figures
from movl_monai.metrics.matching import DifferentTestSetsError, ImageNames, match_images, read_image_names
from movl_monai.metrics.ood.detection import (
    DEFAULT_SCORE,
    SCORES,
    OODDetector,
    fit_detector,
    fit_ood_score,
    ood_detection,
)
from movl_monai.metrics.ood.score import OODFitError, OODScore
from movl_monai.metrics.operating_points import choose_threshold, operating_figures, operating_points_report
from movl_monai.metrics.paired import compare_outputs, compare_runs, mcnemar, paired_figures
from movl_monai.metrics.selective import RiskCoverage, abstention_report, abstention_threshold
from movl_monai.metrics.stored.cases import Case, cases_csv
from movl_monai.metrics.stored.outputs import StoredOutputs, find_outputs, read_outputs, write_outputs
from movl_monai.metrics.stored.predictions import Predictions, predictions_csv, read_predictions
from movl_monai.metrics.subgroups import GROUP_METRICS, SMALL_BELOW, group_figures, group_report
from movl_monai.metrics.weighted import WeightedFigure, WeightedFigures

__all__ = [
    "Case",
    "ConformalFit",
    "DEFAULT_SCORE",
    "DifferentTestSetsError",
    "GROUP_METRICS",
    "ImageNames",
    "NonFiniteLogitsError",
    "OODDetector",
    "OODFitError",
    "OODScore",
    "PatientBootstrap",
    "Predictions",
    "RiskCoverage",
    "SCORES",
    "SMALL_BELOW",
    "StoredOutputs",
    "TemperatureFit",
    "UndefinedMetricError",
    "WeightedFigure",
    "WeightedFigures",
    "abstention_report",
    "abstention_threshold",
    "binomial_interval",
    "bootstrap_class_intervals",
    "bootstrap_intervals",
    "bootstrap_means",
    "bootstrap_weights",
    "calibration_report",
    "cases_csv",
    "choose_threshold",
    "classification_figures",
    "compare_outputs",
    "compare_runs",
    "conformal_report",
    "conformal_scores",
    "conformal_threshold",
    "find_outputs",
    "fit_conformal",
    "fit_detector",
    "fit_ood_score",
    "fit_temperature",
    "group_figures",
    "group_report",
    "mask_figures",
    "match_images",
    "mcnemar",
    "one_per_patient",
    "ood_detection",
    "operating_figures",
    "operating_points_report",
    "paired_bootstrap",
    "paired_figures",
    "predictions_csv",
    "read_image_names",
    "read_outputs",
    "read_predictions",
    "reliability_bins",
    "set_figures",
    "smallest_alpha",
    "write_outputs",
]
