"""Resize an image to the input size of a backbone: by stretching, padding or cropping."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

__all__ = ["Interpolation", "ResizeImage", "ResizeImaged", "ResizeMode", "fit", "size_before_fitting"]

ResizeMode = Literal["stretch", "pad", "crop"]
Interpolation = Literal["bilinear", "bicubic", "nearest-exact"]


class ResizeImage(Transform):
    """Resize an image to a fixed size.

    Args:
        image_size: (rows, columns) of the result, or one number for a square.
        mode: ``"stretch"`` changes the aspect ratio; ``"pad"`` keeps it and fills with black on both sides (the lower
            or right side gets the odd pixel); ``"crop"`` keeps it, fills the size, and cuts the excess on both sides.
        antialias: whether to low-pass filter before downsampling, as Pillow does; without it fine structures are
            aliased.
        interpolation: ``"bilinear"``, ``"bicubic"`` (sharper; its overshoot is clamped) or ``"nearest-exact"`` (makes
            no new values and ignores ``antialias``).

    Raises:
        ValueError: if a size is not positive, or an option is unknown.

    Example:
        >>> ResizeImage(4, mode="pad")(torch.ones(1, 2, 4))[0]
        tensor([[0., 0., 0., 0.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [0., 0., 0., 0.]])
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        *,
        mode: ResizeMode = "stretch",
        antialias: bool = True,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
            raise ValueError(
                f"image_size must be one or two (rows, columns) positive whole numbers, got {image_size!r}."
            )
        for name, value, choices in (("mode", mode, ResizeMode), ("interpolation", interpolation, Interpolation)):
            if value not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}.")
        self.image_size = (size[0], size[1])
        self.mode = mode
        self.antialias = antialias
        self.interpolation = interpolation

    def __call__(self, image: NdarrayOrTensor) -> torch.Tensor:
        """Resize an image.

        Args:
            image: (C, H, W), floating, in [0, 1].

        Returns:
            float32 (C, rows, columns) in [0, 1].

        Raises:
            ValueError: if the image is not (C, H, W), or is not floating.
        """
        pixels = convert_to_tensor(image, track_meta=False)
        if pixels.ndim != 3 or not pixels.is_floating_point():
            raise ValueError(
                f"image must be floating (C, H, W) in [0, 1], got {pixels.dtype} {tuple(pixels.shape)};"
                " see LoadMedicalImage."
            )
        pixels = pixels.to(torch.float32)
        if pixels.shape[1:] == self.image_size:
            return pixels.clamp(0, 1)
        return fit(self._resized(pixels), self.image_size).clamp(0, 1)

    def _resized(self, pixels: torch.Tensor) -> torch.Tensor:
        size = size_before_fitting(pixels.shape[1], pixels.shape[2], image_size=self.image_size, mode=self.mode)
        if self.interpolation == "nearest-exact":
            return F.interpolate(pixels[None], size=size, mode=self.interpolation)[0]
        return F.interpolate(pixels[None], size=size, mode=self.interpolation, antialias=self.antialias)[0]


def size_before_fitting(height: int, width: int, *, image_size: tuple[int, int], mode: ResizeMode) -> tuple[int, int]:
    """Return the size to which an image is scaled before :func:`fit` pads or crops it."""
    rows, columns = image_size
    if mode == "stretch":
        return rows, columns
    scales = rows / height, columns / width
    scale = min(scales) if mode == "pad" else max(scales)
    # an extremely elongated image keeps at least one pixel
    return max(1, round(height * scale)), max(1, round(width * scale))


def fit(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pad with 0 to ``size`` if the image is smaller, and crop if it is larger, around the center."""
    missing = [wanted - have for wanted, have in zip(size, pixels.shape[1:], strict=True)]
    if not any(missing):
        return pixels
    before = [amount // 2 for amount in missing]
    after = [amount - half for amount, half in zip(missing, before, strict=True)]
    # negative padding crops
    return F.pad(pixels, [before[1], after[1], before[0], after[0]])


class ResizeImaged(MapTransform):
    """Dictionary twin of :class:`ResizeImage`."""

    def __init__(
        self,
        keys: KeysCollection,
        image_size: int | Sequence[int],
        *,
        mode: ResizeMode = "stretch",
        antialias: bool = True,
        interpolation: Interpolation = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ResizeImage(image_size, mode=mode, antialias=antialias, interpolation=interpolation)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Resize the images under the keys; the other entries are kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
