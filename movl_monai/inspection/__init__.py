"""Look into configs, records, checkpoints and exported files without evaluating or loading them.

Nothing in this package imports torch or MONAI, and nothing in it runs a line of the files that it reads.
"""

from .configs import check_config, check_logging
from .files import inspect_file
from .findings import CODE, FileReport, Finding, InspectionError, Report
from .folders import inspect_path

__all__ = [
    "CODE",
    "FileReport",
    "Finding",
    "InspectionError",
    "Report",
    "check_config",
    "check_logging",
    "inspect_file",
    "inspect_path",
]
