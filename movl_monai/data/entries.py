"""What a reader hands over: the entries of one source, and the files it left out with the reason."""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from movl_monai.errors import DataError

__all__ = [
    "SPLITS",
    "Entry",
    "FileHeader",
    "Listing",
    "SkippedFile",
    "SplitName",
    "file_problem",
    "locate",
    "natural_key",
    "natural_sorted",
    "parse_split",
    "tidy",
]

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
    """One image of a source, before classes, patients, splits and ids are settled.

    Args:
        path: absolute path.
        key: POSIX path relative to the data root; orders the entries and is what the salted id is made of.
        label: class name, None if the source has none.
        patient: group of the image, None if the source does not say.
        split: as the source says, None if it does not.
        domain: as the source says, None if it does not.
        frame: frame of a multi-frame file, counted from 0.
        id: salted id that the source already carries.
        mask: absolute path of the mask, None if the source has none.
        groups: values of the columns that make groups, such as sex; "" where one is missing.
        known: split in a training whose splits are kept, "" for an image that it did not know; None: not asked.
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


@dataclass
class SkippedFile:
    """A file that is not in the list, with a reason code.

    ``path`` and ``key`` stay in memory; reports name the file by the salted id of ``key``. ``row`` is the row or entry
    of the list that names it, ``label`` the class that the list gives it; messages may say both.
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
    """The entries of one source, the files left out, the class order where the source gives one, and what to know."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    class_names: list[str] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileHeader:
    """What a list needs of a file's header.

    Args:
        patient: issuer and patient id in one string, None if the file does not tell.
        frames: number of frames, slices or pages; 1 for an ordinary image.
        problem: reason code if the file cannot be an image of the list, as reading errors have it: ``bad_header``,
            ``truncated``, ``not_image`` (a report, plan or other object without pixels), ``segmentation``,
            ``too_large`` (over 10 000 frames, or inflates beyond 512 MiB or 200 : 1), ``unsupported_format``.
    """

    patient: str | None = None
    frames: int = 1
    problem: str | None = None


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts numbers in numerical order.

    Example:
        >>> sorted(["grade10", "grade2"], key=natural_key)
        ['grade2', 'grade10']
    """
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Distinct names in natural order."""
    return sorted(set(names), key=lambda name: (natural_key(name), name))


def tidy(text: str | None) -> str | None:
    """A name without surrounding blanks and in one Unicode form (macOS writes folder names decomposed); "" is None."""
    return unicodedata.normalize("NFC", text.strip()) or None if text else None


def parse_split(text: str | None) -> SplitName | None:
    """The split that a word means.

    Raises:
        KeyError: if the word is none of train, training, val, valid, validation, cal, calibration, test, testing, in
            any case.

    Example:
        >>> parse_split("Validation"), parse_split("  ")
        ('val', None)
    """
    name = tidy(text)
    return None if name is None else _SYNONYMS[name.lower()]


def locate(written: str, root: Path) -> tuple[Path, str]:
    """Absolute path and key of a path as a list writes it.

    A relative path belongs to ``root`` and may not leave it, neither by ``..`` nor by a link; an absolute path outside
    of ``root`` is taken as it is.

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
    # the key is what the list says, not where an inner link points to
    if path.is_relative_to(root) and ".." not in path.parts:
        key = PurePosixPath(path.relative_to(root).as_posix())
    return path, str(key)


def file_problem(path: Path, *, folders: bool = False) -> str | None:
    """Reason code if nothing can be read from ``path``: it is missing, empty, or not a regular file.

    With ``folders`` a folder, which may hold a DICOM series, is as good as a file.
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
    """The class names as a list of distinct, non-empty strings.

    Raises:
        DataError: if a name is empty or given twice, or there are fewer than two.
    """
    names = [tidy(str(name)) or "" for name in class_names]
    if len(set(names)) != len(names) or "" in names or len(names) < 2:
        raise DataError(f"class_names must be two or more different, non-empty names, got {list(class_names)}.")
    return names
