"""Patient groups such as sex, age band, site or scanner: further columns of a list, for figures per group."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from movl_monai.data.entries import Entry
from movl_monai.errors import DataError

__all__ = ["MAX_VALUES", "check_group_columns", "check_group_values"]

logger = logging.getLogger(__name__)

MAX_VALUES = 50
_RESERVED = ("path", "image", "label", "patient_id", "split", "domain", "frame", "mask", "id")


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
