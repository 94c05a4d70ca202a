"""Kinds of outputs, and the tasks that have them."""

from __future__ import annotations

from collections.abc import Sequence

from movl_monai.errors import ConfigError

__all__ = ["KINDS", "check_kinds", "kinds_of_units"]

KINDS = {
    "csv": ("classification", "segmentation"),
    "json": ("classification", "segmentation"),
    "sr": ("classification",),
    "seg": ("segmentation",),
    "sc": ("classification", "segmentation"),
    "nifti": ("segmentation",),
    "png": ("classification", "segmentation"),
}
"""Kinds of outputs, and the tasks that have them."""

_OF_UNITS = ("seg", "sc", "nifti", "png")


def check_kinds(outputs: Sequence[str], task: str) -> frozenset[str]:
    """Return the outputs as a set.

    Raises:
        ConfigError: if the list is empty, or an output is unknown or not available for the task.
    """
    if unknown := [name for name in outputs if name not in KINDS]:
        raise ConfigError(f"--outputs must be of {', '.join(KINDS)}, got {', '.join(map(repr, unknown))}.")
    if other := [name for name in outputs if task not in KINDS[name]]:
        possible = ", ".join(name for name, tasks in KINDS.items() if task in tasks)
        raise ConfigError(f"A model for {task} has the outputs {possible}; it has no {', '.join(other)}.")
    if not outputs:
        raise ConfigError(f"--outputs must name at least one of {', '.join(KINDS)}.")
    return frozenset(outputs)


def kinds_of_units(kinds: frozenset[str]) -> list[str]:
    """Return the kinds that are written after each image or volume; the others are made from the journal at the end."""
    return [name for name in _OF_UNITS if name in kinds]
