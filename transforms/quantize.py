"""Quantise an image to the grid k/255, where storage as uint8 is lossless."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

__all__ = ["QuantizeImage", "QuantizeImaged", "image_to_uint8", "uint8_to_image"]


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
