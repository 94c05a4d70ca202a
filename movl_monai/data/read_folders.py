"""Find the files below a folder; read class folders, and pairs of images and masks (`images/x`, `masks/x`)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from movl_monai.data.entries import (
    Entry,
    Listing,
    SkippedFile,
    SplitName,
    file_problem,
    natural_key,
    natural_sorted,
    parse_split,
    tidy,
)
from movl_monai.errors import DataError

__all__ = [
    "class_depth",
    "file_at_problem",
    "find_files",
    "has_pairs",
    "is_hidden",
    "name_problem",
    "read_files",
    "read_folders",
    "read_pairs",
]

# usual companions of images in folders; files of any other name are tried, as names are unreliable
_NOT_IMAGES = frozenset(
    {
        *(
            ".csv",
            ".tsv",
            ".xls",
            ".xlsx",
            ".json",
            ".jsonl",
            ".xml",
            ".yaml",
            ".yml",
            ".toml",
            ".ini",
            ".cfg",
            ".sqlite",
        ),
        *(".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".html", ".htm", ".log", ".url", ".lnk"),
        *(".py", ".ipynb", ".sh", ".m", ".exe", ".dll", ".zip", ".tar", ".7z", ".rar"),
        *(".mat", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5"),
    }
)
_NOT_IMAGE_NAMES = frozenset(
    {"readme", "license", "licence", "changelog", "makefile", "thumbs.db", "desktop.ini", "dicomdir"}
)
_IMAGES = ("images", "image", "imgs", "imagestr")
_MASKS = ("masks", "mask", "labels", "label", "labelstr", "segmentations", "annotations")


def find_files(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield all files below ``root``, folder by folder, in no reliable order.

    Linked folders are not entered, which also ends loops.

    Yields:
        A file, or a folder that was not entered with the reason: ``linked_folder``, ``folder_not_readable``.
    """
    failed: list[OSError] = []
    for folder, subfolders, names in os.walk(root, followlinks=False, onerror=failed.append):
        for name in subfolders:
            path = Path(folder, name)
            if path.is_symlink():
                yield path, "linked_folder"
        for name in names:
            yield Path(folder, name), None
        while failed:
            yield Path(failed.pop().filename or folder), "folder_not_readable"
    while failed:
        yield Path(failed.pop().filename or root), "folder_not_readable"


def name_problem(path: Path, root: Path) -> str | None:
    """Return ``hidden_file`` or ``other_file`` for a file that is not an image by its name or place."""
    name = path.name.lower()
    if any(is_hidden(part) for part in path.relative_to(root).parts) or name in ("thumbs.db", "desktop.ini"):
        return "hidden_file"
    if name in _NOT_IMAGE_NAMES or path.suffix.lower() in _NOT_IMAGES or path.stem.lower() == "readme":
        return "other_file"
    return None


def file_at_problem(path: Path, root: Path) -> str | None:
    """Return a reason code if a path leads out of ``root`` by a link, or cannot be read."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            return "link_out_of_folder"
    except (OSError, RuntimeError):  # for circular links
        return "missing_file"
    return file_problem(path)


def is_hidden(name: str) -> bool:
    """Return True for a hidden name, or a name from macOS archives."""
    return name.startswith((".", "__MACOSX"))


def read_folders(root: Path) -> Listing:
    """Return the entries of a folder of class folders.

    The folders directly below ``root`` are the splits if all of them are called train(ing), val(id)(ation) or
    test(ing), and the classes otherwise. Class folders are searched at any depth. Every file becomes an entry, or is
    skipped with its reason: ``hidden_file`` (also in hidden folders and ``__MACOSX``), ``other_file`` (not an image by
    its name), ``outside_class_folder``, ``linked_folder``, ``folder_not_readable``, ``link_out_of_folder``,
    ``empty_file``, ``not_regular_file``.

    Raises:
        DataError: if split folders and others lie side by side, or there are no class folders.
    """
    root = root.absolute()
    folders = [path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)]
    sheets = [path.name for path in root.iterdir() if path.suffix.lower() in (".xlsx", ".xls", ".xlsm", ".ods")]
    depth = class_depth(folders)
    listing = Listing()
    for path, problem in find_files(root):
        parts = path.relative_to(root).parts
        split: SplitName | None = parse_split(parts[0]) if depth == 1 and len(parts) > 1 else None
        too_high = "outside_class_folder" if len(parts) <= depth + 1 else None
        if reason := problem or name_problem(path, root) or too_high or file_at_problem(path, root):
            listing.skipped.append(SkippedFile(path, "/".join(parts), reason, split=split))
        else:
            listing.entries.append(Entry(path=path, key="/".join(parts), label=tidy(parts[depth]), split=split))
    if not folders or not listing.entries:
        raise DataError(
            f"The folder {root.name!r} must hold one folder per class with images in it, or train/val/test folders "
            f"with class folders; found {len(folders)} folders, no image in a class folder and {len(listing.skipped)} "
            "other files."
            + (
                " If a spreadsheet in it is the list, save it as 'CSV UTF-8' under the name manifest.csv."
                if sheets
                else ""
            )
        )
    return listing


def read_files(root: Path) -> Listing:
    """Return the entries of a folder of images without labels: every file below it, at any depth.

    Every file becomes an entry, or is skipped with its reason, as in :func:`read_folders`.
    """
    root = root.absolute()
    listing = Listing()
    for path, problem in find_files(root):
        key = path.relative_to(root).as_posix()
        if reason := problem or name_problem(path, root) or file_at_problem(path, root):
            listing.skipped.append(SkippedFile(path, key, reason))
        else:
            listing.entries.append(Entry(path=path, key=key))
    return listing


def class_depth(folders: list[str]) -> int:
    """Return the depth of the class folders: 0 directly below the root, 1 below split folders.

    Raises:
        DataError: if split folders and others lie side by side.
    """
    splits = [name for name in folders if _is_split(name)]
    if splits and len(splits) < len(folders):
        others = _listed(set(folders) - set(splits))
        raise DataError(
            f"Split folders ({_listed(set(splits))}) and others ({others}) lie side by side; "
            "move the others away, or describe the images in a manifest.csv."
        )
    return 1 if splits else 0


def _listed(names: set[str]) -> str:
    """Join names in natural order, at most five of them."""
    ordered = sorted(names, key=natural_key)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


def _is_split(name: str) -> bool:
    try:
        return parse_split(name) is not None
    except KeyError:
        return False


def read_pairs(root: Path, *, mask_suffix: str = "") -> Listing:
    """Return the pairs of a folder with ``images`` and ``masks`` (or ``labels``), possibly below split folders.

    An image belongs to the mask of the same relative path without suffixes: ``images/a/x.nii.gz`` to ``masks/a/x.nii``.
    A folder of images with one mask, ``images/x/*.dcm`` and ``masks/x.dcm`` or the only file of ``masks/x``, is one
    series. Every file becomes part of a pair, or is skipped with its reason: ``image_without_mask``,
    ``mask_without_image``, ``ambiguous_pair`` (two files of one name), ``outside_pair_folders``, or a reason of
    :func:`read_folders`.

    Args:
        root: the folder.
        mask_suffix: end of the mask names, after the name of the image, such as "_mask".

    Raises:
        DataError: if there are no such folders, or they contain no pair.
    """
    root = root.absolute()
    listing = Listing()
    folders = _subfolders(root)
    splits = [(root / name, parse_split(name)) for name in folders] if _are_splits(folders) else [(root, None)]
    for folder, split in sorted(splits):
        _add_folder(listing, root, folder, split, mask_suffix)
    _skip_the_rest(listing, root)
    if not listing.entries:
        raise DataError(
            f"No image with a mask of the same name was found among {len(listing.skipped)} files; put them into "
            "`images` and `masks`, or name the masks in the column `mask` of a CSV manifest."
        )
    return listing


def has_pairs(root: Path) -> bool:
    """Return True for a folder for :func:`read_pairs`: with images and masks, or with such folders per split."""
    folders = _subfolders(root)
    places = [root / name for name in folders] if _are_splits(folders) else [root]
    return all(_find(_subfolders(place), _IMAGES) and _find(_subfolders(place), _MASKS) for place in places)


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]


@dataclass
class _Side:
    """Files of one of the two folders, by name without suffixes."""

    folder: Path
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def inside(self, name: str) -> list[Path]:
        """Return the files directly in a folder of that name."""
        return [path for paths in self.files.values() for path in paths if _name(path.parent, self.folder) == name]


def _are_splits(folders: list[str]) -> bool:
    return bool(folders) and not _find(folders, _IMAGES) and class_depth(folders) == 1


def _find(folders: Iterable[str], names: Iterable[str]) -> str | None:
    lower = {folder.lower(): folder for folder in folders}
    return next((lower[name] for name in names if name in lower), None)


def _add_folder(listing: Listing, root: Path, folder: Path, split: SplitName | None, mask_suffix: str) -> None:
    folders = _subfolders(folder)
    images, masks = _find(folders, _IMAGES), _find(folders, _MASKS)
    if images is None or masks is None:
        found = ", ".join(natural_sorted(folders)[:5]) or "none"
        raise DataError(
            f"A folder of images with masks must hold `images` and `masks` (or `labels`), got the folders: {found}; "
            "rename them, or name the masks in the column `mask` of a CSV manifest."
        )
    one = _side(listing, root, folder / images, split, "")
    other = _side(listing, root, folder / masks, split, mask_suffix)
    for path, mask in _pairs(one, other):
        listing.entries.append(Entry(path=path, key=path.relative_to(root).as_posix(), split=split, mask=mask))
    for side, reason in ((one, "image_without_mask"), (other, "mask_without_image")):
        for paths in side.files.values():
            for path in paths:
                why = "ambiguous_pair" if len(paths) > 1 else reason
                listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), why, split=split))


def _side(listing: Listing, root: Path, folder: Path, split: SplitName | None, suffix: str) -> _Side:
    side = _Side(folder)
    for path, problem in find_files(folder):
        key = path.relative_to(root).as_posix()
        if reason := problem or name_problem(path, root) or file_at_problem(path, root):
            listing.skipped.append(SkippedFile(path, key, reason, split=split))
        else:
            side.files[_name(path, folder).removesuffix(suffix)].append(path)
    return side


def _pairs(images: _Side, masks: _Side) -> list[tuple[Path, Path]]:
    """Return the pairs, removed from both sides."""
    pairs = []
    for name in natural_sorted([*images.files, *masks.files]):
        if len(images.files.get(name, [])) == len(masks.files.get(name, [])) == 1:
            pairs.append((images.files.pop(name)[0], masks.files.pop(name)[0]))
    for name in natural_sorted(_name(path.parent, images.folder) for paths in images.files.values() for path in paths):
        slices = images.inside(name)
        lone = masks.files.get(name, []) or masks.inside(name)
        if name and len(lone) == 1:
            pairs.append((images.folder / name, lone[0]))
            for side, taken in ((images, slices), (masks, lone)):
                _take(side, taken)
    return pairs


def _take(side: _Side, taken: list[Path]) -> None:
    for name in list(side.files):
        side.files[name] = [path for path in side.files[name] if path not in taken]
        if not side.files[name]:
            del side.files[name]


def _name(path: Path, folder: Path) -> str:
    """Return a relative path without the suffixes of its last part."""
    relative = path.relative_to(folder)
    if path == folder:
        return ""
    stem = relative.name[: -len(".nii.gz")] if relative.name.lower().endswith(".nii.gz") else relative.stem
    return (relative.parent / stem).as_posix() if path.is_file() else relative.as_posix()


def _skip_the_rest(listing: Listing, root: Path) -> None:
    """Report the files beside the folders of images and masks."""
    known = {file.path for file in listing.skipped} | {entry.mask for entry in listing.entries}
    known |= {entry.path for entry in listing.entries}
    for path, problem in find_files(root):
        if path not in known and path.parent not in known:
            reason = problem or name_problem(path, root) or "outside_pair_folders"
            listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), reason))
