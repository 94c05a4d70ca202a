"""Convert the preprocessing of a run to plain data for an exported file, and back."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING, Any

from movl_monai.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser
    from monai.transforms import Compose

__all__ = ["build_preprocessing", "literal_config"]

_EXPRESSIONS = ("$", "@", "%")
_KNOWN = re.compile(r"(movl_monai|monai)\.transforms\.([A-Z]\w*)")
_SETTINGS = ("_disabled_", "_requires_", "_desc_", "_mode_")


def literal_config(parser: ConfigParser, name: str) -> Any:
    """Return a part of a parsed config with every reference and expression replaced by its value.

    Args:
        parser: parser of an inference config.
        name: id of the part, e.g. "preprocessing".

    Returns:
        JSON-able data; objects stay dictionaries with ``_target_``.

    Raises:
        ConfigError: if a value cannot be written as JSON.
    """
    config = parser.get(name)
    if isinstance(config, str) and config.startswith("@"):
        return literal_config(parser, config[1:])
    if isinstance(config, str) and config.startswith(_EXPRESSIONS):
        return _jsonable(parser.get_parsed_content(name), name)
    if isinstance(config, dict):
        keys = [key for key in config if key not in _SETTINGS]
        return {key: literal_config(parser, f"{name}::{key}") for key in keys}
    if isinstance(config, list):
        parts = [(f"{name}::{number}", one) for number, one in enumerate(config)]
        return [literal_config(parser, part) for part, one in parts if not _is_disabled(parser, part, one)]
    return _jsonable(config, name)


def build_preprocessing(config: Any) -> Compose:
    """Build the transforms that :func:`literal_config` wrote.

    Only transforms of :mod:`movl_monai.transforms` and :mod:`monai.transforms` are built: a file from elsewhere must
    not choose the code that runs here.

    Raises:
        ExportError: if the data name anything else.

    Example:
        >>> resize = {"_target_": "movl_monai.transforms.ResizeImaged", "keys": "image", "image_size": 32}
        >>> len(build_preprocessing({"_target_": "monai.transforms.Compose", "transforms": [resize]}).transforms)
        1
    """
    from monai.transforms import Compose

    built = _build(config)
    if not isinstance(built, Compose):
        raise ExportError(
            "The preprocessing of this file is not a Compose of transforms; export it again with `movl-monai export`."
        )
    return built


def _build(config: Any) -> Any:
    if isinstance(config, list):
        return [_build(one) for one in config]
    if not isinstance(config, dict):
        return config
    arguments = {key: _build(value) for key, value in config.items() if key != "_target_"}
    return _transform(config["_target_"])(**arguments) if "_target_" in config else arguments


def _transform(target: Any) -> Any:
    from monai.transforms import Transform

    match = _KNOWN.fullmatch(str(target))
    found = getattr(importlib.import_module(f"{match[1]}.transforms"), match[2], None) if match else None
    if not (isinstance(found, type) and issubclass(found, Transform)):
        raise ExportError(
            f"The preprocessing of this file asks for {target!r}; expected transforms of movl_monai.transforms and "
            "monai.transforms alone. Give the images preprocessed, or send the transform to one of them."
        )
    return found


def _is_disabled(parser: ConfigParser, part: str, config: Any) -> bool:
    if not isinstance(config, dict) or "_disabled_" not in config:
        return False
    return bool(literal_config(parser, f"{part}::_disabled_"))


def _jsonable(value: Any, name: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The setting {name} is a {type(value).__name__}, which an exported file cannot carry; expected numbers, "
            "text, lists of them, or transforms written with `_target_`."
        ) from error
