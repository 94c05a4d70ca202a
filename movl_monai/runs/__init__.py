"""Record of a run (run.json): keep it, read it, open the run again.

Settings are checked without torch and MONAI: the names that need them are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from movl_monai.bundles import find_bundle
from movl_monai.lazy import lazy_names

from .verbatim import as_written, keep_strings, verbatim

if TYPE_CHECKING:
    from .keep_record import KeepRunRecord, make_record
    from .overrides import check_ids, check_overrides, unreferenced_ids
    from .provenance import run_info
    from .run_record import Run, open_run

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

__getattr__ = lazy_names(
    __name__,
    {
        "KeepRunRecord": "keep_record",
        "Run": "run_record",
        "check_ids": "overrides",
        "check_overrides": "overrides",
        "make_record": "keep_record",
        "open_run": "run_record",
        "run_info": "provenance",
        "unreferenced_ids": "overrides",
    },
)
