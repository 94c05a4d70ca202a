"""Trust in a network: calibration, prediction sets, abstention, operating points, subgroups, paired comparisons.

Everything is computed from stored predictions; ``*_report`` functions give the entries of ``report.json``. The modules
of :mod:`movl_monai.evaluation` that assemble a report import from the modules of this package, not from the package.
"""

# imported first, because its report needs modules of this package, and these need its metrics
import movl_monai.evaluation  # noqa: F401

from .calibration import TemperatureFit, calibration_report, fit_temperature, reliability_bins
from .conformal import ConformalFit, conformal_scores, conformal_threshold, fit_conformal, smallest_alpha
from .conformal_report import binomial_interval, conformal_report, one_per_patient, set_figures
from .matching import DifferentTestSetsError, ImageNames, match_images, read_image_names
from .ood_detection import DEFAULT_SCORE, SCORES, OODDetector, fit_detector, fit_ood_score, ood_detection
from .ood_score import OODFitError, OODScore
from .operating_points import choose_threshold, operating_figures, operating_points_report
from .paired import compare_outputs, compare_runs, mcnemar, paired_figures
from .record import Trusted, TrustRecord, trust_record
from .record_file import TRUST_FILE, TrustError, decode_trust, read_trust, trained_state_sha256, write_trust
from .selective import RiskCoverage, abstention_report, abstention_threshold
from .subgroups import GROUP_METRICS, SMALL_BELOW, group_figures, group_report

__all__ = [
    "abstention_report",
    "abstention_threshold",
    "binomial_interval",
    "calibration_report",
    "choose_threshold",
    "compare_outputs",
    "compare_runs",
    "conformal_report",
    "conformal_scores",
    "conformal_threshold",
    "ConformalFit",
    "decode_trust",
    "DEFAULT_SCORE",
    "DifferentTestSetsError",
    "fit_conformal",
    "fit_detector",
    "fit_ood_score",
    "fit_temperature",
    "group_figures",
    "GROUP_METRICS",
    "group_report",
    "ImageNames",
    "match_images",
    "mcnemar",
    "one_per_patient",
    "ood_detection",
    "OODDetector",
    "OODFitError",
    "OODScore",
    "operating_figures",
    "operating_points_report",
    "paired_figures",
    "read_image_names",
    "read_trust",
    "reliability_bins",
    "RiskCoverage",
    "SCORES",
    "set_figures",
    "SMALL_BELOW",
    "smallest_alpha",
    "TemperatureFit",
    "trained_state_sha256",
    "TRUST_FILE",
    "trust_record",
    "Trusted",
    "TrustError",
    "TrustRecord",
    "write_trust",
]
