"""Checks at the start of a workflow, so that avoidable errors do not occur after an hour."""

from __future__ import annotations

import torch

from movl_monai.errors import ConfigError
from movl_monai.runs.output_dir import check_output_dir

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
