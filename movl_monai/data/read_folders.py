"""Read class folders: `<class>/...` or `<split>/<class>/...`."""

from __future__ import annotations

import os
from pathlib import Path

from movl_monai.data.entries import Entry, Listing, SkippedFile, SplitName, file_problem, natural_key, parse_split, tidy
from movl_monai.errors import DataError

__all__ = ["read_files", "read_folders"]

# what lies beside images in the folders people hand over; a file of any other name is tried, as names say little
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


def read_folders(root: Path) -> Listing:
    """The entries of a folder of class folders.

    The folders directly below ``root`` are the splits if all of them are called train(ing), val(id)(ation) or
    test(ing), and the classes otherwise. Below a class folder everything is searched, however deep. Every file ends as
    an entry or as skipped with its reason: ``hidden_file`` (also in hidden folders and ``__MACOSX``), ``other_file``
    (by its name no image), ``outside_class_folder``, ``linked_folder``, ``link_out_of_folder``, ``empty_file``,
    ``not_regular_file``.

    Raises:
        DataError: if split folders and others lie side by side, or there are no class folders.
    """
    root = root.absolute()
    folders = [path.name for path in root.iterdir() if path.is_dir() and not _hidden(path.name)]
    depth = _class_depth(folders)
    listing = Listing()
    for path in _files(root, listing):
        parts = path.relative_to(root).parts
        split: SplitName | None = parse_split(parts[0]) if depth == 1 and len(parts) > 1 else None
        reason = _reason_to_skip(path, root, len(parts) <= depth + 1)
        if reason:
            listing.skipped.append(SkippedFile(path, "/".join(parts), reason, split=split))
        else:
            listing.entries.append(Entry(path=path, key="/".join(parts), label=tidy(parts[depth]), split=split))
    if not folders or not listing.entries:
        raise DataError(
            f"The folder must hold one folder per class with images in it, or train/val/test folders with class "
            f"folders; found {len(folders)} folders, no image in a class folder and {len(listing.skipped)} other files."
        )
    return listing


def read_files(root: Path) -> Listing:
    """The entries of a folder of images without labels: every file below it, however deep.

    Every file ends as an entry or as skipped with its reason, as in :func:`read_folders`.
    """
    root = root.absolute()
    listing = Listing()
    for path in _files(root, listing):
        key = path.relative_to(root).as_posix()
        reason = _reason_to_skip(path, root, too_high=False)
        if reason:
            listing.skipped.append(SkippedFile(path, key, reason))
        else:
            listing.entries.append(Entry(path=path, key=key))
    return listing


def _class_depth(folders: list[str]) -> int:
    """0 if the folders are classes, 1 if they are splits."""
    splits = [name for name in folders if _is_split(name)]
    if splits and len(splits) < len(folders):
        others = _listed(set(folders) - set(splits))
        raise DataError(
            f"Split folders ({_listed(set(splits))}) and others ({others}) lie side by side; "
            "move the others away, or describe the images in a manifest.csv."
        )
    return 1 if splits else 0


def _listed(names: set[str]) -> str:
    """Names in natural order, at most five of them."""
    ordered = sorted(names, key=natural_key)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


def _is_split(name: str) -> bool:
    try:
        return parse_split(name) is not None
    except KeyError:
        return False


def _files(root: Path, listing: Listing) -> list[Path]:
    """All files below ``root``; linked folders are skipped, which also ends loops."""
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=False):
        for name in list(subfolders):
            path = Path(folder, name)
            if path.is_symlink():
                listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), "linked_folder"))
        found += [Path(folder, name) for name in names]
    return found


def _reason_to_skip(path: Path, root: Path, too_high: bool) -> str | None:
    name = path.name.lower()
    if any(_hidden(part) for part in path.relative_to(root).parts) or name in ("thumbs.db", "desktop.ini"):
        return "hidden_file"
    if name in _NOT_IMAGE_NAMES or path.suffix.lower() in _NOT_IMAGES or path.stem.lower() == "readme":
        return "other_file"
    if too_high:
        return "outside_class_folder"
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return "link_out_of_folder"
    return file_problem(path)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))
