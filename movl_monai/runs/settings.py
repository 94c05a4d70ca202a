"""Values of settings: their kinds and limits, and settings that others leave without effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.errors import ConfigError

__all__ = ["LEAST", "check_effects", "check_together", "check_values"]

LEAST = {
    "accumulation_steps": 1,
    "batch_size": 1,
    "bottleneck": 1,
    "decoder_width": 1,
    "epochs": 0,
    "explanation_images": 0,
    "image_size": 1,
    "num_prompts": 1,
    "num_queries": 1,
    "num_workers": 0,
    "patient_pictures": 0,
    "prompt_width": 1,
    "seed": 0,
    "share_every": 1,
    "val_interval": 1,
}
"""Smallest values of settings that are whole numbers."""

_SEVERAL_KINDS = {"voi"}  # an index, or the explanation of a window
_PLACES = ("_dir", "_dirs", "_file", "checkpoint", "_weights")
_NEEDED = {"readout": ("layers", "last", "layers_last.json")}


def check_values(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse values of another kind than the default's, below the smallest one, and empty paths.

    Args:
        defaults: a merged config; ids whose default is an expression, a text or a list take any value.
        given: ids and their values; expressions of MONAI are not evaluated.

    Raises:
        ConfigError: with the option as it is typed, the default, and the value.

    Example:
        >>> check_values({"epochs": 8}, {"epochs": "abc"})
        Traceback (most recent call last):
        ...
        movl_monai.errors.ConfigError: `--epochs` must be a whole number of at least 0, such as 8, got 'abc'.
    """
    for name, value in given.items():
        default = defaults.get(name)
        if isinstance(value, str) and value.startswith(("$", "@", "%")):
            continue
        if value == "" and name.endswith(_PLACES):
            raise ConfigError(
                f"`--{name}` is empty. Expected a path; if it was written with a shell variable, that variable is not "
                "set."
            )
        if isinstance(value, (int, float)) and isinstance(default, str) and name.endswith(_PLACES):
            raise ConfigError(f"`--{name}` must be a path, got the number {value}; write `--{name} ./{value}`.")
        if name in _SEVERAL_KINDS or default is None or _is_of_kind(name, value, default):
            continue
        raise ConfigError(f"`--{name}` must be {_kind(name, default)}, got {value!r}.")


def check_effects(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a setting that another one leaves without effect.

    Raises:
        ConfigError: with both.
    """
    for name, (other, needed, overlay) in _NEEDED.items():
        there = config.get(other)
        if name in given and there is not None and there != needed:
            raise ConfigError(
                f"`--{name}` has no effect while {other} is {there!r}: it is of `--{other} {needed}` (the overlay "
                f"{overlay}). Set that too, or leave `--{name}` out."
            )


def check_together(config: Mapping[str, Any]) -> None:
    """Refuse numbers that cannot stand together: a warm-up as long as the training, a prompt as wide as the image.

    Args:
        config: ids that are read, and their values; expressions are left to the parts.

    Raises:
        ConfigError: with both settings.
    """
    epochs, warmup = config.get("epochs"), config.get("warmup_epochs")
    if isinstance(epochs, int) and isinstance(warmup, (int, float)) and 0 < epochs <= warmup:
        raise ConfigError(
            f"`--warmup_epochs` must be in [0, epochs={epochs}), got {warmup}. Set `--warmup_epochs 0` for so short a "
            "training, or give it more `--epochs`."
        )
    size, width = config.get("image_size"), config.get("prompt_width")
    if isinstance(size, int) and isinstance(width, int) and 2 * width >= size:
        raise ConfigError(
            f"`--prompt_width` must be between 1 and {(size - 1) // 2} pixels for images of {size} x {size}, got "
            f"{width}; `--prompt_width {max(1, round(0.134 * size))}` is the usual share."
        )


def _is_of_kind(name: str, value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if not isinstance(default, (int, float)):
        return True
    if name in LEAST:
        return isinstance(value, int) and not isinstance(value, bool) and value >= LEAST[name]
    # None switches some of them off
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _kind(name: str, default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    if name in LEAST:
        return f"a whole number of at least {LEAST[name]}, such as {default}"
    return f"a number, such as {default}"
