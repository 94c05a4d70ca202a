"""Windows of the VOI LUT module and fixed CT windows as transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.windows import (
    HU_PRESETS,
    Window,
    WindowFunction,
    apply_window,
    resolve_window,
    resolve_windows,
    window_linear,
    window_linear_exact,
    window_sigmoid,
)

__all__ = [
    "HU_PRESETS",
    "ApplyVOIWindow",
    "ApplyVOIWindowd",
    "HUWindows",
    "HUWindowsd",
    "Window",
    "WindowFunction",
    "apply_window",
    "resolve_window",
    "resolve_windows",
    "window_linear",
    "window_linear_exact",
    "window_sigmoid",
]


class ApplyVOIWindow(Transform):
    """Map stored or rescaled intensities to [0, 1] with a DICOM window.

    Args:
        center: WindowCenter, in the unit of the image (HU for CT).
        width: WindowWidth, >= 1 for LINEAR, > 0 for the others.
        function: VOILUTFunction, see :func:`window_linear`, :func:`window_linear_exact`, :func:`window_sigmoid`.

    Raises:
        MedicalImageError: if the width is below the allowed minimum, or the function is unknown.

    Example:
        >>> ApplyVOIWindow(center=40, width=400)(torch.tensor([-160.0, 39.5, 239.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """

    def __init__(self, *, center: float, width: float, function: WindowFunction = "LINEAR") -> None:
        apply_window(np.zeros(1, dtype=np.float32), center=center, width=width, function=function)
        self.center = center
        self.width = width
        self.function = function

    def __call__(self, image: NdarrayOrTensor) -> torch.Tensor:
        """Window an image of any shape and real dtype; returns float32, same shape, in [0, 1]."""
        # float64 first: int32 and int64 do not fit float32, and int16 minus a large center wraps around
        values = convert_to_tensor(image, dtype=torch.float64, track_meta=False)
        windowed = apply_window(values, center=self.center, width=self.width, function=self.function)
        return windowed.to(torch.float32)


class ApplyVOIWindowd(MapTransform):
    """Dictionary twin of :class:`ApplyVOIWindow`."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        center: float,
        width: float,
        function: WindowFunction = "LINEAR",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ApplyVOIWindow(center=center, width=width, function=function)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Window the images under the keys; the other entries are kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


class HUWindows(Transform):
    """Turn CT numbers into three channels, each a fixed window.

    Args:
        windows: one window (repeated) or three, each a name of :data:`HU_PRESETS` or ``[width, level]`` in HU.

    Raises:
        MedicalImageError: if a name is unknown, a width is < 1, or there are not one or three windows.

    Example:
        >>> HUWindows(["lungs", "mediastinum", [1800, 400]])(torch.full((1, 2, 2), -600.5)).shape
        torch.Size([3, 2, 2])
    """

    def __init__(self, windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone")) -> None:
        self.windows = resolve_windows(windows)

    def __call__(self, image: NdarrayOrTensor) -> torch.Tensor:
        """Window an image.

        Args:
            image: (1, H, W) or (1, H, W, D), any real dtype, in HU.

        Returns:
            float32 (3, H, W) or (3, H, W, D) in [0, 1].

        Raises:
            MedicalImageError: if the image has not exactly one channel (``reason="bad_dimensions"``).
        """
        hu = convert_to_tensor(image, dtype=torch.float32, track_meta=False)
        if hu.ndim < 2 or hu.shape[0] != 1:
            raise MedicalImageError(
                f"A CT image must have shape (1, ...), got {tuple(hu.shape)}; add a channel dimension.",
                reason="bad_dimensions",
            )
        return torch.cat([window_linear(hu, center=level, width=width) for width, level in self.windows])


class HUWindowsd(MapTransform):
    """Dictionary twin of :class:`HUWindows`."""

    def __init__(
        self,
        keys: KeysCollection,
        windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
        *,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = HUWindows(windows)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Window the images under the keys; the other entries are kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
