"""Checks at the start of a workflow, so that avoidable errors do not occur after an hour."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from movl_monai.errors import ConfigError, MovlError

from .earlier import check_untrained

__all__ = ["check_device", "check_output_dir"]


def check_device(device: str | torch.device) -> torch.device:
    """Return the device if this machine has it.

    Raises:
        ConfigError: if the name is unknown, CUDA is not available, or the device number is too high.
    """
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device must be 'cpu', 'cuda' or 'cuda:N', got '{device}'.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"device is '{device}', but torch {torch.__version__} sees {count} CUDA device(s) here. "
                "Use `--device cpu`, or check the driver and that torch is a CUDA build (`python -c 'import torch; "
                "print(torch.version.cuda)'`)."
            )
    return device


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
        check_untrained(path, Path(checkpoint))
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
