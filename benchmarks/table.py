"""Figures of the benchmarks as a Markdown table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch

__all__ = ["describe_machine", "format_machine", "format_table"]


_HEADER = (
    "figure",
    "ours / other",
    "wanted",
    "rounds",
    "ours: median (min, spread)",
    "other: median (min, spread)",
    "peak memory ours / other",
)


def format_table(figures: Mapping[str, float], wanted: Mapping[str, str]) -> str:
    """Format every comparison as a row, and the other figures as lines below.

    Args:
        figures: flat keys; those of one :func:`~benchmarks.compare` belong together.
        wanted: target of a ratio, in words, by key.

    Returns:
        Markdown, ends without a line break.
    """
    names = [key.removesuffix("_ours_s") for key in figures if key.endswith("_ours_s")]
    rows = [_HEADER, ("---",) * len(_HEADER), *(_row(name, figures, wanted.get(name, "")) for name in names)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    parts = {f"{name}_{part}" for name in names for part in _parts()} | set(names)
    rest = [f"- {key}: {value:.4g}" for key, value in figures.items() if key not in parts]
    return "\n".join([*lines, *([""] if rest else []), *rest])


def format_machine(facts: Mapping[str, object]) -> str:
    """Format facts on one line."""
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def _row(name: str, figures: Mapping[str, float], wanted: str) -> tuple[str, ...]:
    times = [
        f"{_seconds(figures[f'{name}_{who}_s'])} ({_seconds(figures[f'{name}_{who}_min_s'])}, "
        f"{figures[f'{name}_{who}_spread']:.0%})"
        for who in ("ours", "other")
    ]
    memory = " / ".join(f"{figures[f'{name}_{who}_peak_mb']:.0f}" for who in ("ours", "other")) + " MB"
    return name, f"{figures[name]:.3f}", wanted, f"{figures[f'{name}_rounds']:.0f}", *times, memory


def _parts() -> list[str]:
    return ["rounds", *(f"{who}_{part}" for who in ("ours", "other") for part in ("s", "min_s", "spread", "peak_mb"))]


def _seconds(value: float) -> str:
    if value < 0.01:
        return f"{value * 1e3:.2f} ms"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


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
