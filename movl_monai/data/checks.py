"""Checks after decoding: unreadable files, swapped masks, exposure and repeated pixels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from movl_monai.data.datalist import Datalist
from movl_monai.data.decode import EXPOSURES, Decoded
from movl_monai.data.duplicates import Duplicate
from movl_monai.errors import DataError

__all__ = ["SWAPPED", "check_duplicates", "check_exposure", "check_swapped", "check_unreadable"]

SWAPPED = (
    "Images and masks seem to be swapped: in {count} of {total} pairs the image has the few levels of a mask and "
    "the mask the many levels of an image. Swap the folders (images, masks), or the columns path and mask of the list."
)

logger = logging.getLogger(__name__)

# listed files that could not be read; a hidden file or a README is no loss
_LOST = (
    *("missing_file", "empty_file", "not_regular_file", "bad_header", "too_large", "unsupported_format"),
    *("missing_mask", "empty_mask", "mask_not_regular_file"),
)
_REMEDIES = {
    "mask_values": " Masks of two classes that were saved as JPEG need a threshold: `--mask_threshold 128`.",
}


def check_unreadable(
    datalist: Datalist, outcomes: Sequence[Decoded], max_unreadable: float, report: Path | None
) -> None:
    """Log the number of unreadable files and the reasons; missing files of the list are included.

    Raises:
        DataError: if more than the share ``max_unreadable`` is unreadable, or all files are.
    """
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    reasons.update(file.reason for file in datalist.skipped if file.reason in _LOST)
    lost = sum(reasons.values())
    if not lost:
        return
    total = len(outcomes) + sum(file.reason in _LOST for file in datalist.skipped)
    detail = _commonest_detail(outcomes, reasons)
    commonest = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(5))
    message = f"{lost} of {total} images could not be read ({commonest})"
    where = "set `report` to have each file listed" if report is None else f"each file is listed in {report}"
    if lost > max_unreadable * total or lost == total:
        raise DataError(f"{message}, more than max_unreadable={max_unreadable:g} allows; {where}.{detail}")
    logger.warning("%s; %s.%s", message, where, detail)


def check_swapped(outcomes: Sequence[Decoded]) -> None:
    """Check that images and masks are not swapped; a few suspicious pairs are only logged.

    Raises:
        DataError: if more than half of the pairs look swapped.
    """
    pairs = [outcome for outcome in outcomes if outcome.mask is not None or outcome.native_mask is not None]
    swapped = sum("looks_swapped" in outcome.record.get("flags", ()) for outcome in pairs)
    if 2 * swapped > len(pairs):
        raise DataError(SWAPPED.format(count=swapped, total=len(pairs)))
    if swapped:
        logger.warning(
            "%d of %d images have few levels and masks of many; the report flags them looks_swapped.",
            *(swapped, len(pairs)),
        )


def _commonest_detail(outcomes: Sequence[Decoded], reasons: Counter[str]) -> str:
    """Return the message of the most frequent reason; messages hold no path and no patient data."""
    (reason, _), *_ = reasons.most_common(1)
    details = Counter(outcome.detail for outcome in outcomes if outcome.reason == reason and outcome.detail)
    return f" {reason}: {details.most_common(1)[0][0]}{_REMEDIES.get(reason, '')}" if details else ""


def check_exposure(outcomes: Sequence[Decoded], report: Path | None) -> None:
    """Log the number of images that are blank, nearly black, nearly white or have few grey levels."""
    found = Counter(flag for outcome in outcomes for flag in outcome.record.get("flags", ()) if flag in EXPOSURES)
    if not found:
        return
    listed = ", ".join(f"{flag} {count}" for flag, count in found.most_common())
    where = "set `report` to have their flags listed" if report is None else f"their flags are listed in {report}"
    logger.warning(
        "Of %d images the network sees: %s. A window or a depth may not fit the values; %s. `voi`, `dicom_range` and "
        "`value_range` in the config choose what is shown.",
        *(len(outcomes), listed, where),
    )


def check_duplicates(duplicates: Sequence[Duplicate], on_leak: Literal["warn", "error"], report: Path | None) -> None:
    """Log the number of images that repeat another one's pixels under another label, or in another split or domain.

    Raises:
        DataError: for another split or domain, if ``on_leak`` is "error".
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
