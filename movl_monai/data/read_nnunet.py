"""Read data sets of nnU-Net v2: `imagesTr`, `labelsTr`, `imagesTs`, and their `dataset.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from movl_monai.data.entries import Entry, Listing, SkippedFile, SplitName, check_class_names, natural_sorted
from movl_monai.data.read_folders import file_at_problem, find_files, name_problem
from movl_monai.errors import DataError

__all__ = ["is_nnunet", "read_nnunet"]

_LIST = "dataset.json"
_FOLDERS: tuple[tuple[str, str, SplitName | None], ...] = (
    ("imagesTr", "labelsTr", None),
    ("imagesTs", "labelsTs", "test"),
)
_CHANNEL = re.compile(r"_(\d{4})$")


def is_nnunet(root: Path) -> bool:
    """Return True for a data set of nnU-Net v2: it has `imagesTr`, and its `dataset.json` names a file ending.

    A folder with a ``manifest.csv`` is read by its manifest instead.
    """
    if not (root / "imagesTr").is_dir() or not (root / _LIST).is_file() or (root / "manifest.csv").is_file():
        return False
    try:
        content = json.loads((root / _LIST).read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "file_ending" in content


def read_nnunet(root: Path) -> Listing:
    """Return the pairs of a data set of nnU-Net v2: image `imagesTr/CASE_0000.END` and mask `labelsTr/CASE.END`.

    Images of `imagesTs` are the split "test" if `labelsTs` has their masks, else reported as ``image_without_mask``. A
    colour picture is one file, for any number of channels in `dataset.json`.

    Raises:
        DataError: for images of several files, one per channel; for labels that are regions, include "ignore", or are
            not numbered 0, 1, ...; for cases in other folders; if there is no pair.

    Reference:
        Isensee et al., nnU-Net v2, documentation/dataset_format.md.
    """
    root = root.absolute()
    content = json.loads((root / _LIST).read_bytes())
    if content.get("dataset"):
        raise DataError(
            f"{_LIST} lists the files of each case under 'dataset', which is not read; put them into imagesTr and "
            "labelsTr, or name them in a manifest.csv with the columns path and mask."
        )
    listing = Listing(class_names=_class_names(content.get("labels")))
    ending = str(content["file_ending"])
    for images, masks, split in _FOLDERS:
        _add_pairs(listing, root, images, masks, split, ending)
    known = {file.path for file in listing.skipped} | {entry.path for entry in listing.entries}
    known |= {entry.mask for entry in listing.entries if entry.mask is not None} | {root / _LIST}
    for path, problem in find_files(root):
        if path not in known:
            reason = problem or name_problem(path, root) or "outside_pair_folders"
            listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), reason))
    if not listing.entries:
        raise DataError(
            f"No image with a mask was found in imagesTr and labelsTr: {_LIST} says that files end in {ending!r}, "
            f"images in '_0000{ending}'."
        )
    return listing


def _class_names(labels: Any) -> list[str]:
    if not isinstance(labels, dict) or not labels:
        raise DataError(f'{_LIST} must have \'labels\' such as {{"background": 0, "lesion": 1}}.')
    if any(isinstance(value, list) for value in labels.values()):
        raise DataError(
            f"{_LIST} trains regions (labels that are lists, such as [1, 2]), where a pixel has several classes; here "
            "each pixel has one. Give 'labels' one number each, in the values of the masks."
        )
    if any(str(name).lower() == "ignore" for name in labels):
        raise DataError(
            f"{_LIST} has a label 'ignore', pixels that count for nothing; here every pixel counts. Make them "
            "background in the masks and take the label out."
        )
    numbers = sorted(labels.values(), key=str)
    if sorted(map(str, range(len(labels)))) != [str(number) for number in numbers]:
        raise DataError(f"'labels' of {_LIST} must be numbered 0, 1, ... {len(labels) - 1}, got {numbers}.")
    return check_class_names(sorted(labels, key=lambda name: int(labels[name])))


def _add_pairs(listing: Listing, root: Path, images: str, masks: str, split: SplitName | None, ending: str) -> None:
    cases: dict[str, Path] = {}
    for name, path in _files(listing, root, root / images, split, ending).items():
        channel = _CHANNEL.search(name)
        if channel is not None and channel[1] != "0000":
            raise DataError(
                f"{images} has images of several files, one for each channel ({channel[0]}{ending}); one channel is "
                "read. Give the channel to train on alone, as _0000, or make one picture of three channels."
            )
        if channel is None:
            listing.skipped.append(SkippedFile(path, _key(path, root), "outside_pair_folders", split=split))
        else:
            cases[name[: channel.start()]] = path
    marks = _files(listing, root, root / masks, split, ending)
    for case in natural_sorted([*cases, *marks]):
        image, mask = cases.get(case), marks.get(case)
        if image is not None and mask is not None:
            listing.entries.append(Entry(path=image, key=_key(image, root), split=split, mask=mask))
        elif image is not None:
            listing.skipped.append(SkippedFile(image, _key(image, root), "image_without_mask", split=split))
        elif mask is not None:
            listing.skipped.append(SkippedFile(mask, _key(mask, root), "mask_without_image", split=split))


def _files(listing: Listing, root: Path, folder: Path, split: SplitName | None, ending: str) -> dict[str, Path]:
    """Return the files of a folder by name without the ending; others are skipped."""
    files: dict[str, Path] = {}
    for path, problem in find_files(folder) if folder.is_dir() else ():
        other = None if path.name.endswith(ending) and path.parent == folder else "other_file"
        if reason := problem or name_problem(path, root) or other or file_at_problem(path, root):
            listing.skipped.append(SkippedFile(path, _key(path, root), reason, split=split))
        else:
            files[path.name.removesuffix(ending)] = path
    return files


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
