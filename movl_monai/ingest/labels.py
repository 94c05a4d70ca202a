"""Sources of labels: class folders, a CSV list, or a DICOM tag that the user chose."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from movl_monai.data.columns import missing_files
from movl_monai.data.entries import Entry, SplitName, parse_split, tidy
from movl_monai.data.layouts import is_paired
from movl_monai.data.read_csv import read_csv
from movl_monai.data.read_folders import class_depth, is_hidden
from movl_monai.errors import DataError

__all__ = ["LabelSource", "check_keyword", "labels_from"]

LabelSource = Callable[[str, int, str | None], Entry | str]
"""From a path relative to the root, a frame, and the value of the tag, to the image's entry or a reason code."""

# representations whose values can be classes; names, dates, times, UIDs, free texts and bytes cannot
_REPRESENTATIONS = frozenset(("CS", "DS", "FD", "FL", "IS", "LO", "SH", "SL", "SS", "UL", "US"))
_IDENTIFYING = re.compile(
    "Name|ID$|IDs$|Identifi|Address|Telephone|Physician|Operator|Performer|Performed|Requesting|Referring|Responsible"
    "|Serial|Accession|Comment|Institution|Person|Date|Time|UID|Station|History|Occupation|Telecom|Contact|Number$"
    "|Reason|Location|Diagnos|Visit|Admi|Issuer|Publisher|Author|Reviewer|Owner|Order|Text|Description"
)
# keywords that look identifying but are not
_HARMLESS = frozenset(("ProtocolName", "SequenceName", "SeriesNumber", "EchoNumbers", "SeriesDescription"))


def check_keyword(keyword: str) -> str:
    """Check that a DICOM tag may be a label.

    Raises:
        DataError: if the standard has no such keyword, or its values identify people, devices or dates, or cannot be
            classes.

    Reference:
        DICOM PS3.15 E.1 (the attributes that de-identification removes).

    Example:
        >>> check_keyword("BodyPartExamined")
        'BodyPartExamined'
    """
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise DataError(
            f"--labels dicom:{keyword}: the DICOM standard has no such keyword; write it as in the standard, such as "
            "dicom:BodyPartExamined."
        )
    of_patient = tag >> 16 == 0x0010 and keyword != "PatientSex"
    if of_patient or (_IDENTIFYING.search(keyword) and keyword not in _HARMLESS):
        raise DataError(
            f"--labels dicom:{keyword}: this tag can identify people, devices or dates, and labels are written into "
            "reports and checkpoints; choose another tag, or write the classes into a CSV."
        )
    if dictionary_VR(tag) not in _REPRESENTATIONS:
        raise DataError(
            f"--labels dicom:{keyword}: its values are of representation {dictionary_VR(tag)}, which cannot be "
            "classes; choose a tag with codes, words or numbers."
        )
    return keyword


def labels_from(
    option: str | None, root: Path, *, encoding: str | None = None, notes: list[str] | None = None
) -> LabelSource:
    """Return the source of labels.

    Args:
        option: ``folders``, the path of a CSV file, ``dicom:KEYWORD``, or None for no labels.
        root: the folder of the images.
        encoding: code page of a CSV file that is not Unicode.
        notes: receives notes on the CSV file.

    Raises:
        DataError: if the CSV or keyword does not exist, the CSV names missing files, or the folder has no class
            folders.
    """
    if option is None:
        return lambda path, frame, tag: Entry(path=root / path, key=path)
    if option == "folders":
        if is_paired(root):
            raise DataError(
                "--labels folders: the folders are images and masks, not classes; give --labels masks to pair them."
            )
        return _from_folders(root)
    if option.startswith("dicom:"):
        check_keyword(option.removeprefix("dicom:"))
        return lambda path, frame, tag: Entry(path=root / path, key=path, label=tidy(tag)) if tidy(tag) else "no_label"
    return _from_csv(Path(option), root, encoding, [] if notes is None else notes)


def _from_folders(root: Path) -> LabelSource:
    folders = [path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)]
    if not folders:
        raise DataError(
            "--labels folders: there are no class folders. Expected one folder per class, or train/val/test folders "
            "with class folders; leave --labels out for images without labels."
        )
    depth = class_depth(folders)

    def source(path: str, frame: int, tag: str | None) -> Entry | str:
        parts = path.split("/")
        if len(parts) <= depth + 1:
            return "outside_class_folder"
        split: SplitName | None = parse_split(parts[0]) if depth == 1 else None
        return Entry(path=root / path, key=path, label=tidy(parts[depth]), split=split)

    return source


def _from_csv(source: Path, root: Path, encoding: str | None, notes: list[str]) -> LabelSource:
    if not source.is_file():
        raise DataError(
            f"--labels {source.name}: there is no such CSV file; give folders, dicom:KEYWORD, or a CSV with the "
            "columns path (relative to the folder of the images) and label."
        )
    listing = read_csv(source, data_root=root, labelled=False, encoding=encoding)
    notes += listing.notes
    total = len(listing.entries) + len(listing.skipped)
    if missing := missing_files(listing.skipped, total, folder="the folder of the images"):
        raise DataError(f"--labels {source.name}: {missing} Correct or remove these rows.")
    entries = {(entry.key, entry.frame): entry for entry in listing.entries}

    def look_up(path: str, frame: int, tag: str | None) -> Entry | str:
        entry = entries.get((path, frame)) or entries.get((path, None))
        if entry is None:
            return "not_in_list"
        return entry if entry.label else "no_label"

    return look_up
