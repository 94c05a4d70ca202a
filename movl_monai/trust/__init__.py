"""When to trust a network: calibration, conformal sets, abstention, operating points, subgroups, paired comparisons.

Everything is computed from stored predictions; ``*_report`` functions give the entries of ``report.json``. The modules
of :mod:`movl_monai.evaluation` that assemble a report import from the modules of this package, not from the package.
"""

# first: its report needs modules of this package, which in turn need its metrics, and this order resolves both
import movl_monai.evaluation  # noqa: F401

from .calibration import TemperatureFit, calibration_report, fit_temperature, reliability_bins

__all__ = ["TemperatureFit", "calibration_report", "fit_temperature", "reliability_bins"]
