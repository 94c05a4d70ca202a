"""Sources of labels: class folders, a CSV list, a DICOM tag that the user chose, or masks paired with images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from movl_monai.data.checks import SWAPPED
from movl_monai.data.columns import missing_files
from movl_monai.data.decode import explain
from movl_monai.data.entries import Entry, Listing, SplitName, parse_split, tidy
from movl_monai.data.ids import Salter
from movl_monai.data.label_forms import label_form
from movl_monai.data.read_csv import read_csv
from movl_monai.data.read_folders import class_depth, is_hidden, read_pairs
from movl_monai.data.sources import LISTS, is_paired, reader_of
from movl_monai.errors import DataError
from movl_monai.ingest.examine import Preprocessing
from movl_monai.ingest.journal import Journal, file_key
from movl_monai.readers import sniff_format

if TYPE_CHECKING:
    from movl_monai.transforms import LoadImageMask

__all__ = [
    "LabelSource",
    "UNPAIRED",
    "check_keyword",
    "check_pairs",
    "files_of",
    "find_pairs",
    "labels_from",
    "mark_pairs",
    "middle_slice",
    "pair_notes",
    "pair_source",
    "read_checked",
    "read_with_findings",
]

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
UNPAIRED = ("image_without_mask", "mask_without_image", "ambiguous_pair", "outside_pair_folders")
_LOOKED_AT = 16


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
    listing = read_with_findings(partial(read_csv, source, data_root=root, labelled=False, encoding=encoding))
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


def read_with_findings(read: Callable[..., Listing]) -> Listing:
    """Return a list of images; those without class and mask have the columns of their findings as ``groups``.

    Their label is then the names of their positive findings, joined, for counts and splits.

    Args:
        read: reads the list in a ``form`` of labels, with ``group_columns``.
    """
    listing = read()
    if any(entry.label or entry.mask for entry in listing.entries):
        return listing
    form = label_form("multilabel")
    try:
        found = read(form=form)
    except DataError:
        return listing
    if len(found.class_names or []) < 2:
        return listing
    written = read(group_columns=found.class_names)
    for entry, row in zip(found.entries, written.entries, strict=True):
        values = entry.findings or {}
        # as written, but 0 where another column says that there is no finding
        entry.groups = {name: row.groups[name] or ("0" if value == 0 else "") for name, value in values.items()}
        if any(value is not None for value in values.values()):
            names = [name for name, value in values.items() if value]
            entry.label = form.separator.join(names) or form.no_finding
    return found


def find_pairs(root: Path, mask_suffix: str = "") -> Listing:
    """Pair the images and masks of a folder; lists in the folder are ignored.

    Raises:
        DataError: if there are no such folders, or they contain no pair.
    """
    reader = reader_of(root, "masks", lists=False) or read_pairs
    return reader(root, mask_suffix=mask_suffix)


def read_checked(folder: Path, mask_suffix: str = "") -> Listing | None:
    """Return the pairs of a folder without a list, with a series as its files; None for any other folder."""
    if not folder.is_dir() or not is_paired(folder) or any((folder / name).is_file() for name in LISTS[::2]):
        return None
    listing = find_pairs(folder, mask_suffix)
    listing.entries = [one for entry in listing.entries for one in files_of(entry, folder.absolute())]
    return listing


def files_of(entry: Entry, root: Path) -> list[Entry]:
    """Return the entry itself, or one entry per file for a folder with a series."""
    if not entry.path.is_dir():
        return [entry]
    files = sorted(path for path in entry.path.rglob("*") if path.is_file())
    return [replace(entry, path=path, key=path.relative_to(root).as_posix()) for path in files]


def pair_source(listing: Listing) -> LabelSource:
    """Return the source of labels that gives each image its mask and split."""
    entries = {entry.key: entry for entry in listing.entries}
    reasons = {file.key: file.reason for file in listing.skipped}

    def look_up(path: str, frame: int, tag: str | None) -> Entry | str:
        series = entries.get(path.rpartition("/")[0])
        return entries.get(path) or series or reasons.get(path) or "mask"

    return look_up


def mark_pairs(journal: Journal, listing: Listing, salter: Salter, root: Path) -> None:
    """Set the status of masks and unpaired files; masks are neither images nor volumes."""
    masks = (entry.mask.relative_to(root).as_posix() for entry in listing.entries if entry.mask is not None)
    statuses = [(file_key(salter, key), "mask") for key in masks]
    statuses += [(file_key(salter, file.key), file.reason) for file in listing.skipped if file.reason in UNPAIRED]
    journal.db.executemany(
        "INSERT OR REPLACE INTO statuses SELECT key, ?2 FROM files WHERE key = ?1 "
        "AND status IN ('ok', 'some_frames_unreadable', 'segmentation')",
        statuses,
    )
    journal.db.execute(
        "DELETE FROM volumes WHERE volume IN (SELECT volume FROM placed JOIN statuses USING (key) "
        "WHERE status IN ('mask', 'mask_without_image'))"
    )


def pair_notes(listing: Listing, folder: str) -> list[str]:
    """Return a note on the number of files without a partner, and on the file that names them."""
    found = Counter(file.reason for file in listing.skipped if file.reason in UNPAIRED)
    if not found:
        return []
    counts = ", ".join(f"{reason} {found[reason]}" for reason in UNPAIRED if found[reason])
    return [f"Files without a partner ({counts}) are left out by training; {folder} names each."]


def check_pairs(entries: Sequence[Entry], preprocessing: Preprocessing) -> list[str]:
    """Check some pairs: swapped images and masks, and mismatches.

    Returns:
        Notes.

    Raises:
        DataError: if most pairs look swapped.
    """
    from movl_monai.transforms import LoadImageMask

    step = max(1, len(entries) // _LOOKED_AT)
    chosen = entries[::step][:_LOOKED_AT]
    load = LoadImageMask(
        num_classes=2, mask_threshold=0.5, slice_axis=preprocessing.slice_axis, exif=preprocessing.exif
    )
    swapped, problems = 0, Counter[str]()
    for entry in chosen:
        try:
            frame = middle_slice(load, entry)
            record = load.read(entry.path, entry.mask, frame)[2]
            swapped += "looks_swapped" in record.get("flags", ())
        except Exception as error:  # folders contain every kind of broken file; none may end the run
            problems[": ".join(filter(None, explain(error)))] += 1
    if 2 * swapped > len(chosen):
        raise DataError(SWAPPED.format(count=swapped, total=len(chosen)))
    return [
        f"{count} of {len(chosen)} pairs that were looked at do not fit. {text}" for text, count in problems.items()
    ]


def middle_slice(load: LoadImageMask, entry: Entry) -> int | None:
    """Return the middle slice of a volume; its ends may be empty."""
    if entry.frame is not None:
        return entry.frame
    if entry.path.is_dir() or sniff_format(os.fspath(entry.path)) in ("nifti", "nifti_pair"):
        return load.volume(entry.path).slice_count(load.images.slice_axis) // 2
    return None
