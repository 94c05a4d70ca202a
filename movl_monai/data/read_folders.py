"""Find the files below a folder, without leaving it, and read class folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from movl_monai.data.entries import Entry, Listing, SkippedFile, SplitName, file_problem, natural_key, parse_split, tidy
from movl_monai.errors import DataError

__all__ = ["class_depth", "file_at_problem", "find_files", "is_hidden", "name_problem", "read_files", "read_folders"]

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
