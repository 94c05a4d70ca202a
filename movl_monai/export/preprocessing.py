"""Convert the preprocessing and the sliding window of a run to plain data for an exported file, and back."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from movl_monai.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser
    from monai.transforms import Compose

__all__ = ["build_preprocessing", "describe_inferer", "literal_config", "window_logits"]

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


def describe_inferer(inferer: Any) -> dict[str, Any] | None:
    """Return a run's inferer as plain data: None for whole images, or the settings of its sliding window.

    Raises:
        ConfigError: if it is neither MONAI's simple inferer nor its sliding window.
    """
    from monai.inferers import SimpleInferer, SlidingWindowInferer

    if type(inferer) is SimpleInferer:
        return None
    if type(inferer) is not SlidingWindowInferer:
        raise ConfigError(
            f"The run's inferer is a {type(inferer).__name__}; expected monai's SimpleInferer or SlidingWindowInferer, "
            "whose settings an exported file can carry."
        )
    sides = inferer.roi_size
    return {
        "roi_size": [sides, sides] if isinstance(sides, int) else [int(side) for side in sides],
        "overlap": _numbers(inferer.overlap),
        "mode": str(getattr(inferer.mode, "value", inferer.mode)),
        "sigma_scale": _numbers(inferer.sigma_scale),
        "padding_mode": str(getattr(inferer.padding_mode, "value", inferer.padding_mode)),
        "cval": float(inferer.cval),
        "batch_size": int(inferer.sw_batch_size),
    }


def window_logits(
    network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, windows: Mapping[str, Any]
) -> tuple[np.ndarray, None]:
    """Compute the logits (B, C, H, W) of images (B, 3, H, W) with the run's sliding window; there are no features.

    Args:
        network: maps windows (B, 3, h, w) to logits (B, C, h, w).
        image: float32.
        windows: settings from :func:`describe_inferer`.
    """
    import torch
    from monai.inferers import SlidingWindowInferer

    # older files lack the last three, and used MONAI's defaults
    further = {name: windows[name] for name in ("sigma_scale", "padding_mode", "cval") if name in windows}
    inferer = SlidingWindowInferer(
        roi_size=windows["roi_size"],
        sw_batch_size=windows["batch_size"],
        overlap=windows["overlap"],
        mode=windows["mode"],
        **further,
    )
    with torch.inference_mode():
        logits: Any = inferer(torch.from_numpy(image), lambda part: torch.from_numpy(network(part.numpy())))
    return logits.numpy(), None


def _numbers(value: Any) -> float | list[float]:
    return float(value) if isinstance(value, (int, float)) else [float(one) for one in value]
