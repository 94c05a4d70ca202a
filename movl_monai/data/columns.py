"""Columns of a list: patient groups, labels that look like several, unused columns; patients that no column names."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from movl_monai.data.entries import Entry, SkippedFile, natural_key, parse_split
from movl_monai.errors import DataError

__all__ = [
    "HOW_TO_NAME_PATIENTS",
    "MAX_VALUES",
    "assign_patients_by_pattern",
    "check_for_splits",
    "check_group_columns",
    "check_group_values",
    "check_labels",
    "is_absent",
    "joined_labels",
    "missing_files",
    "one_patient_each",
    "unused_columns",
    "warn_if_unknown",
]

# written by `movl-monai ingest`, for human readers
_FOR_PEOPLE = ("modality", "view", "laterality", "study", "series", "volume", "slice", "slice_position")
_ABSENT = frozenset(("nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "nat", "#null!", "#name?", "#value!", "#ref!"))
_SPLIT_WORDS = frozenset(
    ("trn", "tst", "dev", "development", "eval", "evaluation", "tune", "tuning", "holdout", "hold-out", "held-out")
)
_SHOWN = 8
_FOLDER = "the folder of the list"
_NAME_IT = "Call the column 'split', with the values train, val, calibration and test"
_SEPARATORS = re.compile(r"\s*[|;,]\s*")
logger = logging.getLogger(__name__)
MAX_VALUES = 50
_MOST_GRADES = 30  # more different numbers are measurements
_MANY = 20  # different labels, from which on they may be names of images
_RESERVED = ("path", "image", "label", "patient_id", "split", "domain", "frame", "mask", "id")
HOW_TO_NAME_PATIENTS = (
    "Do one of these: name the groups in the column patient_id of a CSV manifest; give `--patient_pattern REGEX`, a "
    "regular expression for the path with a group (?P<patient>...); give the splits (train/val/test folders, or the "
    "column split); or, only if no patient has two files, set `--one_image_per_patient true` (in Python "
    "one_image_per_patient=True, with `movl-monai ingest` the option alone)."
)


def is_absent(value: str) -> bool:
    """Return True if a cell is a missing value as written by programs.

    Example:
        >>> is_absent("NaN"), is_absent("none")
        (True, False)
    """
    return value.strip().lower() in _ABSENT


def unused_columns(columns: Iterable[str], used: Iterable[str], name: str) -> list[str]:
    """Return a note that names the unused columns of a list; [] if all are used."""
    unused = [column for column in dict.fromkeys(columns) if column and column not in {*used, *_FOR_PEOPLE}]
    if not unused:
        return []
    more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
    return [f"Columns of {name} that are not used: {', '.join(unused[:_SHOWN])}{more}."]


def check_for_splits(
    rows: Sequence[Mapping[str, object]], used: Iterable[str], name: str, *, advice: str = _NAME_IT
) -> None:
    """Check that no unused column holds the splits; newly made splits would mix the list's own.

    Args:
        rows: values by column.
        used: columns that are read.
        name: of the list.
        advice: instruction for giving the splits.

    Raises:
        DataError: if nearly all values of an unused column are names of splits, one of them training.
    """
    taken = {*used}
    if "split" in taken and any(str(row.get("split") or "").strip() for row in rows):
        return
    for column in dict.fromkeys(column for row in rows for column in row if column and column not in taken):
        values = [str(row.get(column) or "").strip() for row in rows]
        filled = [value for value in values if value and not is_absent(value)]
        meant = [_split_word(value) for value in filled]
        if {"train", "trn"} & set(meant) and len({*meant} - {None}) > 1 and 5 * meant.count(None) <= len(meant):
            counts = ", ".join(f"{value!r} {filled.count(value)}" for value in sorted({*filled})[:_SHOWN])
            raise DataError(
                f"The splits of {name} seem to be in the column {column!r} ({counts}), which is not read: splits made "
                f"anew would put test images into training. {advice}; or remove {column!r} to have splits made."
            )


def missing_files(skipped: Iterable[SkippedFile], total: int, *, folder: str = _FOLDER) -> str:
    """Return a sentence that names the missing files of a list by their rows; "" if none is missing."""
    missing = [file for file in skipped if file.reason == "missing_file" and file.row is not None]
    if not missing:
        return ""
    unit = "rows" if isinstance(missing[0].row, int) else "entries"
    shown = ", ".join(str(file.row) for file in missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    one = missing[0].path
    suffixes = sorted(
        {path.suffix for path in one.parent.glob(f"{_quoted(one.name)}.*")} if one.parent.is_dir() else ()
    )
    hint = f"; files of these names end in {', '.join(suffixes[:3])}, which the list leaves out" if suffixes else ""
    return (
        f"{len(missing)} of {total} files that the list names are not there ({unit} {shown}){hint}. Paths are relative "
        f"to {folder}."
    )


def _split_word(value: str) -> str | None:
    word = " ".join(value.lower().replace("_", " ").split()).removesuffix(" set").removesuffix(" split")
    try:
        return parse_split(word)
    except KeyError:
        return word if word in _SPLIT_WORDS else None


def _quoted(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def joined_labels(labels: Iterable[str]) -> list[str]:
    """Return the labels that contain `|`, or that join other labels with `;` or a comma.

    Example:
        >>> joined_labels(["a", "b", "a;b", "c|d", "pneumonia, viral"])
        ['a;b', 'c|d']
    """
    parts = {label: [part for part in _SEPARATORS.split(label) if part] for label in sorted(set(labels))}
    alone = {label for label, found in parts.items() if len(found) == 1}
    joined = [label for label, found in parts.items() if len(found) > 1]
    return [label for label in joined if "|" in label or alone & set(parts[label])]


def check_labels(entries: Sequence[Entry], known: Iterable[str] = ()) -> None:
    """Refuse labels that are no classes: several labels of one image, measurements, or a label for every image.

    Args:
        entries: with their labels.
        known: class names, which are exempt.

    Raises:
        DataError: with some of them.
    """
    exempt = set(known)
    labels = [entry.label for entry in entries if entry.label and entry.label not in exempt]
    names = sorted(set(labels), key=natural_key)
    if joined := [label for label in joined_labels(labels) if label not in exempt]:
        raise DataError(
            f"Labels look like several labels per image: {', '.join(map(repr, joined[:5]))}. To predict several "
            "findings at once take the task multilabel (`movl-monai fit DATA --output_dir OUT --task multilabel`); for "
            "classes choose a column with one label each, or give the classes names without "
            "'|', ';' and ','."
        )
    if _are_measurements(names):
        raise DataError(
            f"The {len(names)} labels look like measurements, not like classes: {', '.join(names[:5])}, ... To predict "
            "the number take the task regression (`movl-monai fit DATA --output_dir OUT --task regression`). Else "
            "group them into classes in the column `label`, such as '<50' and '>=50'; to train on these numbers as "
            "classes, list them in class_names."
        )
    if len(names) >= _MANY and 2 * len(names) > len(labels):
        raise DataError(
            f"{len(labels)} images have {len(names)} different labels, but a class needs several images. Expected the "
            "class of each image in the column `label` (or class folders), not its name or number."
        )


def _are_measurements(labels: Sequence[str]) -> bool:
    """Return True for decimal fractions, and for more numbers than a scale of grades has.

    Example:
        >>> _are_measurements(["0.5", "1.25"]), _are_measurements(["0", "1.0"]), _are_measurements(["b2.5", "1.5"])
        (True, False, False)
    """
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return len(numbers) > _MOST_GRADES or any(number != round(number) for number in numbers if math.isfinite(number))


def check_group_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the group columns as a list.

    Raises:
        DataError: if they are a text instead of a list, or one is empty, repeated, or reserved.

    Example:
        >>> check_group_columns(("sex", "site"))
        ['sex', 'site']
    """
    if isinstance(names, str):
        raise DataError(f"group_columns must be a list of columns, got the text {names!r}; write ['{names}'].")
    columns = [str(name).strip() for name in names]
    if len({name.lower() for name in columns}) != len(columns) or "" in columns:
        raise DataError(f"group_columns must be different, non-empty names, got {columns}.")
    taken = [name for name in columns if name.lower() in _RESERVED]
    if taken:
        raise DataError(
            f"The column {', '.join(taken)} has a meaning of its own and makes no group; name columns such as sex, "
            "age_band, site, view or scanner."
        )
    return columns


def check_group_values(entries: Sequence[Entry], columns: Sequence[str]) -> None:
    """Check that the groups are few; log the domains in which a column is missing or empty.

    Group values appear in reports. A column with hundreds of values is no group but an age, a date or a name.

    Raises:
        DataError: if a column is empty, or has more than ``MAX_VALUES`` different values, none of them repeated.
    """
    for column in columns:
        values = {entry.groups.get(column, "") for entry in entries} - {""}
        if not values:
            raise DataError(f"No image has a value in the column {column!r}; fill it, or take it out of group_columns.")
        if len(values) > MAX_VALUES:
            raise DataError(
                f"The column {column!r} has {len(values)} different values, expected at most {MAX_VALUES}: a group is "
                "a category such as sex or site, and its values stand in the report. Make bands of numbers (age 40-59) "
                "and leave out what names people."
            )
        for domain in sorted({entry.domain or "" for entry in entries}):
            inside = [entry for entry in entries if (entry.domain or "") == domain]
            missing = sum(not entry.groups.get(column) for entry in inside)
            if missing:
                logger.warning(
                    "%d of %d images of the domain %s have no value in the column %s and are in none of its groups.",
                    *(missing, len(inside), domain, column),
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
