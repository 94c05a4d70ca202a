"""Record of a run (run.json): keep it, read it, open the run again."""

from movl_monai.bundles import find_bundle

from .keep_record import KeepRunRecord, make_record
from .overrides import check_ids, check_overrides, unreferenced_ids
from .provenance import run_info
from .run_record import Run, open_run
from .verbatim import as_written, keep_strings, verbatim

__all__ = [
    "KeepRunRecord",
    "Run",
    "as_written",
    "check_ids",
    "check_overrides",
    "find_bundle",
    "keep_strings",
    "make_record",
    "open_run",
    "run_info",
    "unreferenced_ids",
    "verbatim",
]
