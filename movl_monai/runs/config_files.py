"""Config files as MONAI reads and merges them, without importing MONAI."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError

__all__ = ["SUFFIXES", "find_place", "merge_configs", "read_config"]

SUFFIXES = (".json", ".yaml", ".yml")
"""Ends of the names of config files."""


def read_config(file: str | Path) -> dict[str, Any]:
    """Return the content of a config file; nothing of it is evaluated.

    Raises:
        ConfigError: if there is no such file, or it does not hold ids and their values.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(_not_there(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"A config file ends in .json, .yaml or .yml, got '{path.name}'; give a file of the bundle.")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else _yaml(text)
    except Exception as error:  # of json, of yaml, of decoding
        raise ConfigError(f"{path.name} cannot be read as a config: {error}. Correct the file.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path.name} must hold ids and their values ({{...}}), got a {type(content).__name__}; give a file of the "
            "bundle."
        )
    return content


def merge_configs(contents: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Merge configs as MONAI does: later values replace earlier ones, ``+id`` adds to them, ``a#b`` sets a part.

    Args:
        contents: name for messages, and content, in the order of merging.

    Raises:
        ConfigError: for a part of an id that no earlier config has.

    Example:
        >>> merge_configs([("a", {"lr": {"head": 1}, "run": ["x"]}), ("b", {"lr#head": 2, "+run": ["y"]})])
        {'lr': {'head': 2}, 'run': ['x', 'y']}
    """
    merged: dict[str, Any] = {}
    for file, content in contents:
        for name, value in content.items():
            adds = name.startswith("+")
            holder, key = find_place(merged, name, of=file)
            there = _part(holder, str(key))
            if adds and isinstance(there, dict) and isinstance(value, Mapping):
                there.update(copy.deepcopy(dict(value)))
            elif adds and isinstance(there, list) and isinstance(value, list):
                there.extend(copy.deepcopy(value))
            else:
                holder[key] = copy.deepcopy(value)
    return merged


def find_place(config: dict[str, Any], name: str, *, of: str) -> tuple[Any, Any]:
    """Return the dictionary or list, and the key in it, of an id such as ``train#handlers#0``.

    Args:
        config: a merged config.
        name: id; its last part may be new in a dictionary.
        of: name of the file, or option, that sets the id, for the message.

    Raises:
        ConfigError: if the id above has no such part.
    """
    *above, last = name.removeprefix("+").replace("#", "::").split("::")
    holder: Any = config
    for part in above:
        holder = _part(holder, part)
    if isinstance(holder, dict):
        return holder, last
    if isinstance(holder, list) and _part(holder, last) is not None:
        return holder, int(last)
    held = f"has {len(holder)} parts" if isinstance(holder, list) else "has no parts"
    raise ConfigError(
        f"{of} replaces '{last}' of '{'#'.join(above)}', which {held} in these config files. Expected the place of a "
        "value in them; correct it, or override a whole id."
    )


def _part(holder: Any, key: str) -> Any:
    """Return a part of a dictionary or list; None if there is none."""
    if isinstance(holder, dict):
        return holder.get(key)
    try:
        return holder[int(key)] if isinstance(holder, list) else None
    except (ValueError, IndexError):
        return None


def _yaml(text: str) -> Any:
    import yaml  # MONAI needs it for such files, too

    return yaml.safe_load(text)


def _not_there(path: Path) -> str:
    unset = (
        " If its path was written with a shell variable, that variable is not set."
        if path.is_absolute() and path.parent == Path(path.anchor)
        else ""
    )
    return (
        f"There is no config file '{path}'.{unset} Expected the files of a bundle, such as "
        "bundles/movl_classification/configs/train.json, each with its folder."
    )
