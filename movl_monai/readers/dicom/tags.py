"""Values of a header that may be missing, empty or damaged, read without exceptions."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.lean import plain_code, plain_numbers, plain_uid, tag_of, too_long
from movl_monai.readers.dicom.quiet import quiet

__all__ = [
    *(
        "code_string",
        "each_number",
        "functional_group",
        "functional_groups",
        "integer",
        "items",
        "number",
        "numbers",
        "raw_data",
        "uid",
    ),
    "values",
]


@quiet()
def values(dataset: Dataset, keyword: str, flags: Flags | None = None) -> list[Any]:
    """Return the values of a tag; [] if it is missing, empty or damaged. The last two are flagged."""
    tag = tag_of(keyword)
    if tag not in dataset:
        return []
    try:
        # converts the raw bytes, which can fail in any way
        value = dataset[tag].value
    except Exception:
        _flag(flags, "invalid", keyword)
        return []
    listed = [] if value is None else list(value) if _is_list(value) else [value]
    if not listed or all(entry is None or entry == "" for entry in listed):
        _flag(flags, "empty", keyword)
        return []
    return listed


def numbers(dataset: Dataset, keyword: str, flags: Flags | None = None) -> list[float]:
    """Return the values of a tag as finite numbers; [] if one of them is not a finite number."""
    tag = tag_of(keyword)
    if too_long(dataset, tag):
        _flag(flags, "invalid", keyword)
        return []
    found = plain_numbers(dataset, tag)
    if found is None:
        try:
            found = [float(value) for value in values(dataset, keyword, flags)]
        except (TypeError, ValueError, OverflowError):
            found = [math.nan]
    if all(math.isfinite(value) for value in found):
        return found
    _flag(flags, "invalid", keyword)
    return []


def each_number(dataset: Dataset, keyword: str, flags: Flags | None = None) -> list[float]:
    """Return the values of a tag as numbers, NaN for each that is not a number; [] if it is missing or empty."""
    tag = tag_of(keyword)
    if too_long(dataset, tag):
        _flag(flags, "invalid", keyword)
        return []
    if (plain := plain_numbers(dataset, tag)) is not None:
        return plain
    raw, _ = raw_data(dataset, keyword)
    # one text that is not a number must not lose the others
    found = raw.split(b"\\") if isinstance(raw, bytes) and raw.strip(b" \0") else values(dataset, keyword, flags)
    return [_as_number(value) for value in found]


def number(dataset: Dataset, keyword: str, flags: Flags | None = None) -> float | None:
    """Return the first value of a tag as a finite number, or None."""
    found = numbers(dataset, keyword, flags)
    return found[0] if found else None


def integer(dataset: Dataset, keyword: str, flags: Flags | None = None) -> int | None:
    """Return the first value of a tag as an integer, or None."""
    found = number(dataset, keyword, flags)
    if found is not None and found != int(found):
        _flag(flags, "invalid", keyword)
        return None
    return None if found is None else int(found)


def code_string(dataset: Dataset, keyword: str) -> str:
    """Return the first value of a tag as stripped upper-case text, "" if there is none."""
    if (code := plain_code(dataset, tag_of(keyword))) is not None:
        return code
    found = values(dataset, keyword)
    return str(found[0]).strip(" \0").upper() if found else ""


def uid(dataset: Dataset, keyword: str) -> UID:
    """Return the first value of a tag as UID, an empty one if there is none."""
    if (plain := plain_uid(dataset, tag_of(keyword))) is not None:
        return plain
    found = values(dataset, keyword)
    return UID(str(found[0])) if found else UID("")


def raw_data(dataset: Dataset, keyword: str) -> tuple[Any, Literal["<", ">"]]:
    """Return the unconverted value of a tag (None if it is missing) and its byte order.

    Values set by a program, not read from a file, are returned unchanged.
    """
    tag = tag_of(keyword)
    if tag not in dataset:
        return None, "<"
    try:
        element = dataset.get_item(tag)
    except Exception:
        return None, "<"
    is_big_endian = isinstance(element, RawDataElement) and not element.is_little_endian
    return element.value, ">" if is_big_endian else "<"


def items(dataset: Dataset, keyword: str, flags: Flags | None = None) -> list[Dataset]:
    """Return the items of a sequence; [] if it is missing or empty."""
    return [item for item in values(dataset, keyword, flags) if isinstance(item, Dataset)]


def functional_group(header: Dataset, keyword: str, frame: int) -> Dataset | None:
    """Return the functional group of a frame: its own, else the shared group of all frames.

    Args:
        header: header of an enhanced multi-frame object, or any other.
        keyword: sequence of the group, for example ``PixelMeasuresSequence``.
        frame: index of the frame, from 0.

    Reference:
        DICOM PS3.3 C.7.6.16.
    """
    found = functional_groups(header, keyword, frame)
    return found[0] if found else None


def functional_groups(header: Dataset, keyword: str, frame: int) -> list[Dataset]:
    """Return all items of a functional group that may have several, such as ``DerivationImageSequence``."""
    own = items(header, "PerFrameFunctionalGroupsSequence")
    groups = own[frame : frame + 1] + items(header, "SharedFunctionalGroupsSequence")[:1]
    return next((found for group in groups if (found := items(group, keyword))), [])


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _is_list(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str | bytes | bytearray | Dataset)


def _flag(flags: Flags | None, code: str, keyword: str) -> None:
    if flags is not None:
        flags.add(code, keyword)
