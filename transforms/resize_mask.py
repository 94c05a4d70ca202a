"""Resize a mask as its image, and resize a prediction back to the mask's own size."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

from movl_monai.transforms.resize import ResizeImage, ResizeMode, fit, size_before_fitting

__all__ = ["ResizeMask", "ResizeMaskd", "resize_back"]


class ResizeMask(Transform):
    """Resize a mask as :class:`ResizeImage` resizes its image, but by nearest neighbours, which make no new values.

    ``mode="pad"`` adds 0, the background.

    Args:
        image_size: (rows, columns) of the result, or one number for a square.
        mode: resize mode of the image.

    Raises:
        ValueError: if a size is not positive, or the mode is unknown.

    Example:
        >>> ResizeMask(4, mode="pad")(torch.full((1, 2, 4), 7, dtype=torch.uint8))[0]
        tensor([[0, 0, 0, 0],
                [7, 7, 7, 7],
                [7, 7, 7, 7],
                [0, 0, 0, 0]], dtype=torch.uint8)
    """

    def __init__(self, image_size: int | Sequence[int], *, mode: ResizeMode = "stretch") -> None:
        checked = ResizeImage(image_size, mode=mode)
        self.image_size = checked.image_size
        self.mode = mode

    def __call__(self, mask: NdarrayOrTensor) -> torch.Tensor:
        """Resize a mask.

        Args:
            mask: (C, H, W), integers.

        Returns:
            (C, rows, columns) of the same dtype.

        Raises:
            ValueError: if the mask is not (C, H, W), or is floating.
        """
        values = convert_to_tensor(mask, track_meta=False)
        if values.ndim != 3 or values.is_floating_point():
            raise ValueError(f"mask must be (C, H, W) of integers, got {values.dtype} {tuple(values.shape)}.")
        if values.shape[1:] == self.image_size:
            return values
        size = size_before_fitting(values.shape[1], values.shape[2], image_size=self.image_size, mode=self.mode)
        # float32 holds every class exactly
        scaled = F.interpolate(values[None].float(), size=size, mode="nearest-exact")[0]
        return fit(scaled, self.image_size).to(values.dtype)


class ResizeMaskd(MapTransform):
    """Dictionary twin of :class:`ResizeMask`."""

    def __init__(
        self,
        keys: KeysCollection = "mask",
        *,
        image_size: int | Sequence[int],
        mode: ResizeMode = "stretch",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ResizeMask(image_size, mode=mode)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Resize the masks under the keys; the other entries are kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


def resize_back(probabilities: torch.Tensor, size: tuple[int, int], *, mode: ResizeMode = "stretch") -> torch.Tensor:
    """Undo the resizing of an image on its predicted probabilities.

    Probabilities are interpolated, not classes. The border between two classes can then lie between pixels of the
    network.

    Args:
        probabilities: (C, h, w) in [0, 1], floating; channel 0 is the background.
        size: rows and columns of the image before it was resized.
        mode: resize mode of the image. The area cut off by ``"crop"`` is background.

    Returns:
        (C, rows, columns), same dtype.

    Example:
        >>> resize_back(torch.ones(2, 4, 4), (2, 8), mode="pad").shape
        torch.Size([2, 2, 8])
    """
    rows, columns = int(probabilities.shape[1]), int(probabilities.shape[2])
    scaled = size_before_fitting(*size, image_size=(rows, columns), mode=mode)
    if scaled != (rows, columns):
        background = torch.zeros(len(probabilities), 1, 1, dtype=probabilities.dtype, device=probabilities.device)
        background[0] = 1
        inside = _unfit(torch.ones_like(probabilities[:1]), scaled)
        probabilities = _unfit(probabilities, scaled) + (1 - inside) * background
    if scaled == size:
        return probabilities
    resized = F.interpolate(probabilities[None], size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0]


def _unfit(values: torch.Tensor, scaled: tuple[int, int]) -> torch.Tensor:
    """Undo :func:`fit`: remove its padding on each side, and add zeros for its crops."""
    missing = [have - before for have, before in zip(values.shape[1:], scaled, strict=True)]
    first = [amount // 2 for amount in missing]
    last = [amount - half for amount, half in zip(missing, first, strict=True)]
    return F.pad(values, [-first[1], -last[1], -first[0], -last[0]])
