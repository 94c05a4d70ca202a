"""Find the files below a folder, without ever leaving it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from movl_monai.data.entries import file_problem

__all__ = ["file_at_problem", "find_files", "is_hidden", "name_problem"]

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


def find_files(root: Path) -> Iterator[tuple[Path, str | None]]:
    """All files below ``root``, one folder after the other, in no order that could be relied on.

    Linked folders are not entered, which also ends loops.

    Yields:
        a file, or a folder that was not entered with the reason: ``linked_folder``, ``folder_not_readable``.
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
    """``hidden_file`` or ``other_file`` for what is no image by its name or place."""
    name = path.name.lower()
    if any(is_hidden(part) for part in path.relative_to(root).parts) or name in ("thumbs.db", "desktop.ini"):
        return "hidden_file"
    if name in _NOT_IMAGE_NAMES or path.suffix.lower() in _NOT_IMAGES or path.stem.lower() == "readme":
        return "other_file"
    return None


def file_at_problem(path: Path, root: Path) -> str | None:
    """Reason code if a path leads out of ``root`` by a link, or nothing can be read from it."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            return "link_out_of_folder"
    except (OSError, RuntimeError):  # of links in a circle
        return "missing_file"
    return file_problem(path)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or of the archives that macOS makes."""
    return name.startswith((".", "__MACOSX"))
