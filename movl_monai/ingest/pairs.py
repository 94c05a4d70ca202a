"""Images and masks of a folder, paired as in training, and a check that they belong together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from movl_monai.data.checks import SWAPPED
from movl_monai.data.decode import explain
from movl_monai.data.entries import Entry, Listing
from movl_monai.data.ids import Salter
from movl_monai.data.layouts import LISTS, is_paired, reader_of
from movl_monai.data.read_pairs import read_pairs
from movl_monai.errors import DataError
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.labels import LabelSource
from movl_monai.ingest.preprocessing import Preprocessing
from movl_monai.ingest.scan import file_key
from movl_monai.readers import sniff_format

if TYPE_CHECKING:
    from movl_monai.transforms import LoadImageMask

__all__ = [
    "UNPAIRED",
    "check_pairs",
    "files_of",
    "find_pairs",
    "mark_pairs",
    "middle_slice",
    "pair_notes",
    "pair_source",
    "read_checked",
]

UNPAIRED = ("image_without_mask", "mask_without_image", "ambiguous_pair", "outside_pair_folders")
_LOOKED_AT = 16


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
