"""Machine and software of a benchmark."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import psutil
import torch

__all__ = ["describe_machine"]

_PACKAGES = ("monai", "timm", "pytorch-ignite")


def describe_machine(device: torch.device) -> dict[str, str | float]:
    """Return facts about the machine and the versions, as flat keys; none identifies its owner.

    ``load`` is the average number of processes that needed a core in the minute before the start (Unix only). A value
    above ``cpu_cores`` means that the machine was busy.
    """
    facts: dict[str, str | float] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return facts | {name: importlib.metadata.version(name) for name in _PACKAGES}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
