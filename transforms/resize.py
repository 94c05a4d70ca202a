"""Resize an image to the input size of a backbone, and quantise it to the grid k/255, where uint8 is lossless."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

__all__ = [
    "Interpolation",
    "QuantizeImage",
    "QuantizeImaged",
    "ResizeImage",
    "ResizeImaged",
    "ResizeMode",
    "fit",
    "image_to_uint8",
    "size_before_fitting",
    "uint8_to_image",
]

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


def image_to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Return the grey levels 0 to 255 nearest to the values of an image.

    Args:
        image: any shape, floating, in [0, 1].

    Returns:
        uint8, same shape and device.

    Raises:
        ValueError: if the image is not floating (a uint8 image would turn white), or has values outside [0, 1] or NaN.

    Example:
        >>> image_to_uint8(torch.tensor([0.0, 0.5, 1.0]))
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    if not image.is_floating_point():
        raise ValueError(f"image must be floating and in [0, 1], got dtype {image.dtype}; see uint8_to_image.")
    if image.numel() == 0:
        return image.to(torch.uint8)
    low, high = (value.item() for value in torch.aminmax(image))
    # written so that NaN fails
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image must be in [0, 1], got values from {low:.4g} to {high:.4g}; clamp or window it first.")
    return (image.to(torch.float32) * 255).round_().to(torch.uint8)


def uint8_to_image(levels: torch.Tensor) -> torch.Tensor:
    """Return ``levels / 255`` as an image; :func:`image_to_uint8` is the exact inverse.

    Args:
        levels: any shape, uint8.

    Returns:
        float32 in [0, 1], same shape and device.

    Raises:
        ValueError: if the dtype is not uint8.

    Example:
        >>> uint8_to_image(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    if levels.dtype != torch.uint8:
        raise ValueError(f"levels must be uint8, got dtype {levels.dtype}.")
    # divisor as a tensor on the same device: CUDA would multiply by the rounded reciprocal of a Python number
    return levels.to(torch.float32) / torch.full((), 255.0, device=levels.device)


class QuantizeImage(Transform):
    r"""Round an image to the 256 grey levels of files and displays.

    .. math:: y = \mathrm{round}(255 x) / 255

    Every preprocessing chain ends here, for two reasons. An image cached as uint8 (a quarter of the memory) is the same
    image, bit for bit, so that training and inference see the same values. And no model depends on differences that an
    8-bit display does not show, on which decoders and resizing libraries disagree. The error is at most 1/510.

    Raises:
        ValueError: when called, if the image is not floating, or has values outside [0, 1] or NaN.

    Example:
        >>> QuantizeImage()(torch.tensor([0.0, 0.1999, 1.0]))
        tensor([0.0000, 0.2000, 1.0000])
    """

    def __call__(self, image: NdarrayOrTensor) -> torch.Tensor:
        """Quantize an image of any shape, floating, in [0, 1]; returns float32 of the same shape."""
        return uint8_to_image(image_to_uint8(convert_to_tensor(image, track_meta=False)))


class QuantizeImaged(MapTransform):
    """Dictionary twin of :class:`QuantizeImage`."""

    def __init__(self, keys: KeysCollection = "image", *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = QuantizeImage()

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Quantize the images under the keys; the other entries are kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
