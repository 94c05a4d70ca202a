"""Sliding windows over images that are larger than the network's input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from movl_monai.errors import ConfigError

__all__ = ["describe_inferer", "window_logits"]


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
