"""Keys that unify different spellings of one patient or one class."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from movl_monai.data.entries import Entry, natural_sorted
from movl_monai.errors import DataError

__all__ = [
    "label_groups",
    "label_key",
    "merged_spellings",
    "patient_key",
    "preferred_label",
    "settle_labels",
    "unify_patients",
]

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"\+?\d+(?:[.,]\d+)?(?:e\+?\d{1,2})?")


def patient_key(patient: str) -> str:
    """Return a patient's id without differences from typing and spreadsheets.

    These are case, width, blanks, invisible characters, leading zeros of a number, its decimals and its exponent.

    Example:
        >>> {patient_key(text) for text in ("7", "007", "7.0", " 7", "7e0", "７", "|7")}
        {'7'}
        >>> patient_key("Pat 012") == patient_key("pat12"), patient_key("P1") == patient_key("P10")
        (True, False)
    """
    text = _plain(patient).strip("'\"=").lstrip("|")
    if _NUMBER.fullmatch(text):
        return _number(text)
    text = re.sub(r"(?<![\d.])(\d+)[.,]0+$", r"\1", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def label_key(label: str) -> str:
    """Return a label without case, blanks, invisible characters, width and, for a number, its decimals.

    Example:
        >>> label_key("No  Finding") == label_key("no_finding"), label_key("1.0") == label_key("1")
        (True, True)
    """
    text = _plain(label).replace("_", "")
    return _number(text) if _NUMBER.fullmatch(text) and "e" not in text else text


def unify_patients(entries: Sequence[Entry]) -> set[str]:
    """Give entries whose patients differ only in spelling the same patient, in place, and log their number.

    Returns:
        The patients with several spellings.
    """
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.patient and entry.patient != f"file:{entry.key}":
            groups[patient_key(entry.patient)].append(entry)
    unified = set()
    for group in groups.values():
        spellings = natural_sorted(entry.patient or "" for entry in group)
        if len(spellings) > 1:
            unified.add(spellings[0])
            for entry in group:
                entry.patient = spellings[0]
    if unified:
        logger.warning(
            "%d patients are written in more than one way (zeros in front, decimals, case, blanks). Each is taken as "
            "one patient; write them alike, or rename those that are different people.",
            len(unified),
        )
    return unified


def label_groups(labels: Iterable[str]) -> list[list[str]]:
    """Group labels that differ only in case, blanks or width; only groups of two or more, in natural order."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in natural_sorted(labels):
        groups[label_key(label)].append(label)
    return [group for group in groups.values() if len(group) > 1]


def preferred_label(group: Sequence[str], counts: Mapping[str, int], known: Sequence[str] = ()) -> str:
    """Return the spelling for a merged group of labels: a known class, else the most frequent."""
    return max(group, key=lambda label: (label in known, counts.get(label, 0)))


def settle_labels(
    entries: Sequence[Entry], known: Sequence[str] | None = None, *, merge: bool, apart: bool = False
) -> list[str] | None:
    """Merge labels that differ only in case, blanks or width, in place, or refuse them.

    Args:
        entries: changed in place if labels are merged.
        known: given class names; they take precedence among merged spellings.
        merge: whether to merge.
        apart: whether to keep known names separate, however similar, as for a trained network.

    Returns:
        The known names, each in one spelling.

    Raises:
        DataError: if there are such labels and ``merge`` is False.
    """
    counts = Counter(entry.label for entry in entries if entry.label is not None)
    merged, names = merged_spellings(counts, known, merge=merge, apart=apart)
    for entry in entries:
        entry.label = merged.get(entry.label or "", entry.label)
    return names


def merged_spellings(
    counts: Mapping[str, int], known: Sequence[str] | None, *, merge: bool, apart: bool
) -> tuple[dict[str, str], list[str] | None]:
    """Return the name that each merged spelling gets, and the known names; see :func:`settle_labels`.

    Args:
        counts: images of each name.
        known, merge, apart: as for :func:`settle_labels`.

    Raises:
        DataError: if names differ only in case, blanks or width, and ``merge`` is False.
    """
    names = list(known or [])
    groups = [group for group in label_groups([*counts, *names]) if not (apart and set(group) <= set(names))]
    if groups and not merge:
        listed = "; ".join(_listed(group, counts) for group in groups[:5])
        raise DataError(
            f"Labels are equal but for case, blanks or width, and would be classes of their own: {listed}. If they "
            "mean one class each, set `--merge_labels true` (merge_labels=True in Python); else give them other names."
        )
    merged: dict[str, str] = {}
    for group in groups:
        into = preferred_label(group, counts, names)
        merged |= dict.fromkeys(group, into)
        logger.info("Merged labels into %s: %s.", ascii(into), _listed(group, counts))
    return merged, list(dict.fromkeys(merged.get(name, name) for name in names)) if known is not None else None


def _listed(group: Sequence[str], counts: Mapping[str, int]) -> str:
    # repr shows blanks that look alike
    return ", ".join(f"{label!r} ({counts[label]} images)" if label in counts else repr(label) for label in group)


def _plain(text: str) -> str:
    """Return the text in NFKC, with folded case and one kind of dash (Pd), without blanks and invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = (("-" if unicodedata.category(sign) == "Pd" else sign) for sign in folded if not sign.isspace())
    return "".join(sign for sign in kept if unicodedata.category(sign) not in ("Cf", "Cc"))


def _number(text: str) -> str:
    return f"{Decimal(text.replace(',', '.')).normalize():f}"
