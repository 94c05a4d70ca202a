"""Find the files below a folder, without leaving it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from movl_monai.data.entries import file_problem

__all__ = ["file_at_problem", "find_files", "is_hidden", "name_problem"]

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
