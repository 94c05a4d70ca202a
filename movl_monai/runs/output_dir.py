"""Output folder of a workflow: writable, and without an earlier training that would be replaced."""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path

from movl_monai.data.kept_splits import SPLITS_FILE
from movl_monai.errors import ConfigError, MovlError
from movl_monai.runs.record_file import RECORD_FILE

__all__ = ["check_output_dir", "free_folder"]

_TRUST_FILE = "trust.pt"  # the name in movl_monai.evaluation, which imports this package


def check_output_dir(
    folder: str | os.PathLike[str], *, checkpoint: str | os.PathLike[str] | None = None, overwrite: bool = True
) -> Path:
    """Make the output folder and check that it is writable.

    Args:
        folder: made if it is missing.
        checkpoint: of the starting training; None for other workflows.
        overwrite: whether to replace or resume an earlier training.

    Raises:
        ConfigError: if the folder holds an earlier training that must not be replaced.
        MovlError: if it cannot be made or written.
    """
    path = Path(folder)
    if checkpoint is not None and not overwrite:
        _check_untrained(path, Path(checkpoint))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise MovlError(
            f"output_dir cannot be written: {error.strerror or error} ({path}). "
            "Expected a folder that exists or can be made; choose another with `--output_dir DIR`."
        ) from error
    return path


def _check_untrained(folder: Path, checkpoint: Path) -> None:
    """Refuse a folder with the checkpoint, record, splits or trust record of an earlier training."""
    names = (checkpoint.name, "last.pt", RECORD_FILE, SPLITS_FILE, _TRUST_FILE)
    found = [name for name in names if checkpoint.with_name(name).exists()]
    if found:
        raise ConfigError(
            f"output_dir holds a training already ({', '.join(found)} in {checkpoint.parent.name}), which this one "
            f"would replace. Choose another folder, e.g. `--output_dir {free_folder(folder)}`, go on with the earlier "
            "training by `--resume true`, or replace it by `--overwrite true`."
        )


def free_folder(folder: Path) -> Path:
    """Return an unused folder name beside this one, such as ``out_2``."""
    return next(place for number in count(2) if not (place := folder.with_name(f"{folder.name}_{number}")).exists())
