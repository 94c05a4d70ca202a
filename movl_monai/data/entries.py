"""Output of the readers of data sets: the entries of one source, and skipped files with the reason."""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from movl_monai.errors import DataError

__all__ = [
    "SPLITS",
    "Entry",
    "FileHeader",
    "Listing",
    "SkippedFile",
    "SliceAxis",
    "SplitName",
    "file_problem",
    "locate",
    "natural_key",
    "natural_sorted",
    "parse_split",
    "tidy",
]

SliceAxis = Literal["axial", "coronal", "sagittal"]
SplitName = Literal["train", "val", "calibration", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "calibration", "test")

_SYNONYMS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "calibration": "calibration",
    "cal": "calibration",
    "test": "test",
    "testing": "test",
}


@dataclass
class Entry:
    """One image of a source, before classes, patients, splits and ids are determined.

    Args:
        path: absolute path.
        key: POSIX path relative to the data root; basis of the order and of the salted id.
        label: class name, None if the source has none.
        patient: group of the image, None if the source names none.
        split: split in the source, None if it names none.
        domain: domain in the source, None if it names none.
        frame: frame of a multi-frame file, counted from 0.
        id: salted id in the source.
        mask: absolute path of the mask, None if the source has none.
        groups: values of the group columns, such as sex; "" for a missing value.
        known: split in a training whose splits are kept, "" for an image that was not part of it; None: not determined.
        study: from a column, else StudyInstanceUID; it identifies and stays in memory, as do the next two.
        series: from a column, else SeriesInstanceUID.
        unit: series, study or patient that the image is an instance of, see :mod:`movl_monai.data.units`.
        instance: number of the image in its unit, from 0.
        position: place of a slice along the normal of its plane in mm, None if unknown.
        findings: values (1, 0, None) of the findings that the source names for the image; None without a label.
        others: value of all other findings: 0 if the source names those that there are, None if they are unknown.
        target: label of a task without classes: a tuple of 1, 0 and None for each finding, or a number.
    """

    path: Path
    key: str
    label: str | None = None
    patient: str | None = None
    split: SplitName | None = None
    domain: str | None = None
    frame: int | None = None
    id: str | None = None
    mask: Path | None = None
    groups: dict[str, str] = field(default_factory=dict)
    known: str | None = None
    study: str | None = None
    series: str | None = None
    unit: str | None = None
    instance: int | None = None
    position: float | None = None
    findings: dict[str, int | None] | None = None
    others: int | None = None
    target: Any = None


@dataclass
class SkippedFile:
    """File that is not in the list, with a reason code.

    ``path`` and ``key`` stay in memory; reports name the file by the salted id of ``key``. ``row`` is the row or entry
    of the list that names the file, ``label`` its class in the list; messages may contain both.
    """

    path: Path
    key: str
    reason: str
    domain: str | None = None
    split: SplitName | None = None
    id: str = ""
    row: int | str | None = None
    label: str | None = None


@dataclass
class Listing:
    """Entries of one source, skipped files, class order if the source gives one, and notes for the user."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    class_names: list[str] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileHeader:
    """Header fields of a file that a list needs.

    Args:
        patient: issuer and patient id in one string, None if they are missing.
        frames: number of frames, slices or pages; 1 for an ordinary image.
        problem: reason code of a file that cannot be an image of the list, as in reading errors: ``bad_header``,
            ``truncated``, ``not_image`` (a report, plan or other object without pixels), ``segmentation``,
            ``too_large`` (over 10 000 frames, or inflates beyond 512 MiB or 200 : 1), ``unsupported_format``.
        study: StudyInstanceUID, None if it is missing.
        series: SeriesInstanceUID, None if it is missing.
        position: of a single slice, see :class:`Entry`.
    """

    patient: str | None = None
    frames: int = 1
    problem: str | None = None
    study: str | None = None
    series: str | None = None
    position: float | None = None


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts numbers in numerical order.

    Example:
        >>> sorted(["grade10", "grade2"], key=natural_key)
        ['grade2', 'grade10']
    """
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Return the distinct names in natural order."""
    return sorted(set(names), key=lambda name: (natural_key(name), name))


def tidy(text: str | None) -> str | None:
    """Return a name without surrounding blanks in composed Unicode form (macOS decomposes folder names); "" is None."""
    return unicodedata.normalize("NFC", text.strip()) or None if text else None


def parse_split(text: str | None) -> SplitName | None:
    """Return the split that a word means.

    Raises:
        KeyError: if the word is not one of train, training, val, valid, validation, cal, calibration, test, testing, in
            any case.

    Example:
        >>> parse_split("Validation"), parse_split("  ")
        ('val', None)
    """
    name = tidy(text)
    return None if name is None else _SYNONYMS[name.lower()]


def locate(written: str, root: Path) -> tuple[Path, str]:
    """Return the absolute path and the key of a path as written in a list.

    A relative path belongs to ``root`` and may not leave it, neither by ``..`` nor by a link. An absolute path outside
    of ``root`` is used unchanged.

    Raises:
        DataError: if a path leads out of ``root``.
    """
    relative = written.strip()
    if not (root / relative).exists():
        relative = relative.replace("\\", "/")  # lists written on Windows
    path = root / relative
    try:
        key = PurePosixPath(path.resolve().relative_to(root.resolve()))
    except ValueError:
        if Path(relative).is_absolute() and not path.is_relative_to(root):
            return path, path.as_posix()
        raise DataError(
            "a path leads out of the data folder (by `..` or a link); put the file inside, or write its absolute path"
        ) from None
    # the key follows the list, not the target of an inner link
    if path.is_relative_to(root) and ".." not in path.parts:
        key = PurePosixPath(path.relative_to(root).as_posix())
    return path, str(key)


def file_problem(path: Path, *, folders: bool = False) -> str | None:
    """Return a reason code if ``path`` is missing, empty, or not a regular file.

    With ``folders``, a folder, which may hold a DICOM series, is accepted like a file.
    """
    try:
        status = path.stat()
    except OSError:
        return "missing_file"
    if folders and stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait forever
        return "not_regular_file"
    return "empty_file" if status.st_size == 0 else None


def check_class_names(class_names: Sequence[str]) -> list[str]:
    """Return the class names as a list of distinct, non-empty strings.

    Raises:
        DataError: if a name is empty or repeated, or there are fewer than two.
    """
    names = [tidy(str(name)) or "" for name in class_names]
    if len(set(names)) != len(names) or "" in names or len(names) < 2:
        raise DataError(f"class_names must be two or more different, non-empty names, got {list(class_names)}.")
    return names
