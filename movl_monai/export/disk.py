"""Temporary files and folders: a file that is renamed when complete, a scratch folder, and errors for a full disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from movl_monai.errors import ExportError

__all__ = ["neighbor", "scratch_folder"]


@contextmanager
def neighbor(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; it is renamed to ``path`` at the end, or removed after an error.

    Raises:
        ExportError: if the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"The exported file cannot be written: {error.strerror} ({path.parent}). Expected a folder that exists or "
            "can be made, with space left; choose another --output."
        ) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end.

    Raises:
        ExportError: if the block raises an OSError, such as for a full disk.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise ExportError(
            f"The folder for temporary files cannot be used: {error.strerror or type(error).__name__} "
            f"({tempfile.gettempdir()}). Make space there, or name another folder in the environment variable TMPDIR."
        ) from error
