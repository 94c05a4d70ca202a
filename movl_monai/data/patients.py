"""Patients that the list does not name: from the path, or one per file."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from movl_monai.data.entries import Entry
from movl_monai.errors import DataError

__all__ = ["HOW_TO_NAME_PATIENTS", "assign_patients_by_pattern", "one_patient_each", "warn_if_unknown"]

logger = logging.getLogger(__name__)

HOW_TO_NAME_PATIENTS = (
    "Do one of these: name the groups in the column patient_id of a CSV manifest; give `--patient_pattern REGEX`, a "
    "regular expression for the path with a group (?P<patient>...); give the splits (train/val/test folders, or the "
    "column split); or, only if no patient has two files, set `--one_image_per_patient true` (in Python "
    "one_image_per_patient=True, with `movl-monai ingest` the option alone)."
)


def assign_patients_by_pattern(entries: Sequence[Entry], pattern: str, *, required: bool) -> None:
    """Fill in the patients that the list does not name from the relative path.

    Args:
        entries: changed in place.
        pattern: regular expression with a group ``patient``, searched in the POSIX path relative to the data root.
        required: whether a path without a match is an error.

    Raises:
        DataError: if the pattern is not a regular expression with that group, or with ``required`` if paths do not
            match.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise DataError(f"patient_pattern is not a regular expression: {error}; got {pattern!r}.") from error
    if "patient" not in regex.groupindex:
        raise DataError(f"patient_pattern must have a group (?P<patient>...), got {pattern!r}.")
    unknown = [entry for entry in entries if entry.patient is None]
    for entry in unknown:
        match = regex.search(entry.key)
        entry.patient = (match["patient"] or None) if match else None
    failed = sum(entry.patient is None for entry in unknown)
    if failed and required:
        raise DataError(
            f"patient_pattern {pattern!r} finds no patient in {failed} of {len(unknown)} paths (relative to the data "
            "folder, with forward slashes); widen it, or name the patients in a CSV manifest."
        )


def one_patient_each(entries: Sequence[Entry]) -> None:
    """Make every file without a patient its own group, in place; frames of one file stay together."""
    for entry in entries:
        entry.patient = entry.patient or f"file:{entry.key}"


def warn_if_unknown(entries: Sequence[Entry]) -> None:
    """Log once that leakage between given splits cannot be checked, if patients are unknown."""
    unknown = sum(entry.patient is None for entry in entries)
    if unknown and len({entry.split for entry in entries}) > 1:
        logger.warning(
            "The patient of %d of %d images is not known, so it cannot be checked that no patient is in two of the "
            "given splits; a column patient_id in a CSV manifest, or patient_pattern, makes it possible.",
            unknown,
            len(entries),
        )
