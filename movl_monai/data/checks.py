"""What stops, or at least interrupts the silence, after decoding: unreadable files and repeated pixels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from movl_monai.data.datalist import Datalist
from movl_monai.data.decode import Decoded
from movl_monai.data.duplicates import Duplicate
from movl_monai.errors import DataError

__all__ = ["check_duplicates", "check_unreadable"]

logger = logging.getLogger(__name__)

# files that the list names and nothing was read from; a hidden file or a README is no loss
_LOST = (
    *("missing_file", "empty_file", "not_regular_file", "bad_header", "too_large", "unsupported_format"),
    *("missing_mask", "empty_mask", "mask_not_regular_file"),
)


def check_unreadable(
    datalist: Datalist, outcomes: Sequence[Decoded], max_unreadable: float, report: Path | None
) -> None:
    """Log how many files were lost, for which reasons; missing files of the list count.

    Raises:
        DataError: if more than ``max_unreadable`` (a share) are lost, or all.
    """
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    reasons.update(file.reason for file in datalist.skipped if file.reason in _LOST)
    lost = sum(reasons.values())
    if not lost:
        return
    total = len(outcomes) + sum(file.reason in _LOST for file in datalist.skipped)
    commonest = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(5))
    message = f"{lost} of {total} images could not be read ({commonest})"
    where = "set `report` to have each file listed" if report is None else f"each file is listed in {report}"
    if lost > max_unreadable * total or lost == total:
        raise DataError(f"{message}, more than max_unreadable={max_unreadable:g} allows; {where}.")
    logger.warning("%s; %s.", message, where)


def check_duplicates(duplicates: Sequence[Duplicate], on_leak: Literal["warn", "error"], report: Path | None) -> None:
    """Log how many images repeat another one's pixels under another label, or in another split or domain.

    Raises:
        DataError: for the latter, if ``on_leak`` is "error".
    """
    where = "set `report` to have them listed" if report is None else f"they are listed in {report}"
    contradicting = sum(duplicate.contradicts for duplicate in duplicates)
    if contradicting:
        logger.warning("%d images have the pixels of an image with another label; %s.", contradicting, where)
    leaking = sum(duplicate.leaks for duplicate in duplicates)
    if not leaking:
        return
    message = f"LEAKAGE: {leaking} images have the pixels of an image in another split or domain; {where}"
    if on_leak == "error":
        raise DataError(f'{message}. Remove them, or accept figures that are too good with on_leak="warn".')
    logger.warning("%s. Figures on them are too good.", message)
