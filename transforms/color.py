"""Normalisation of colour statistics, for sources that differ only in exposure or stain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

__all__ = ["MatchColorStatistics", "MatchColorStatisticsd"]

_SMALLEST_STD = 1e-3  # below a quarter of a grey level: a constant channel, whose noise must not be blown up


class MatchColorStatistics(Transform):
    r"""Give every channel of an image a fixed mean and standard deviation.

    .. math:: y = (x - \mu_x) / \sigma_x \cdot \sigma + \mu

    No chain has it by default. It removes differences of exposure between hospitals, and with them findings that are
    differences of brightness. The constants must come from training images only. Clamping to [0, 1] makes the
    statistics of the result approximate. A constant channel becomes the mean.

    Args:
        mean: the mean of each channel, in [0, 1].
        std: the standard deviation of each channel, > 0.

    Raises:
        ValueError: if the constants are not three means in [0, 1] and three positive standard deviations.

    Reference:
        Reinhard, Ashikhmin, Gooch, Shirley, "Color Transfer between Images", IEEE CG&A 21(5), 2001, equations 10, 11.
        Deviation: in RGB instead of the lαβ space, with constants instead of a target image.

    Example:
        >>> match = MatchColorStatistics(mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])
        >>> match(torch.tensor([0.0, 0.1]).expand(3, 1, 2))[0]
        tensor([[0.3000, 0.7000]])
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != 3 or not all(0 <= value <= 1 for value in mean):
            raise ValueError(f"mean must be three numbers in [0, 1], one for each channel, got {mean!r}.")
        if len(std) != 3 or not all(value > 0 for value in std):
            raise ValueError(f"std must be three numbers > 0, one for each channel, got {std!r}.")
        self.mean = tuple(mean)
        self.std = tuple(std)

    def __call__(self, image: NdarrayOrTensor) -> torch.Tensor:
        """Match an image.

        Args:
            image: floating (3, H, W) in [0, 1].

        Returns:
            float32 (3, H, W) in [0, 1].

        Raises:
            ValueError: if the image is not floating (3, H, W).
        """
        pixels = convert_to_tensor(image, track_meta=False)
        if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.is_floating_point():
            raise ValueError(f"image must be floating (3, H, W) in [0, 1], got {pixels.dtype} {tuple(pixels.shape)}.")
        pixels = pixels.to(torch.float32)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        own_std, own_mean = torch.std_mean(pixels, dim=(1, 2), correction=0, keepdim=True)
        gain = torch.where(own_std < _SMALLEST_STD, torch.zeros_like(own_std), std / own_std.clamp_min(_SMALLEST_STD))
        return ((pixels - own_mean) * gain + mean).clamp_(0, 1)


class MatchColorStatisticsd(MapTransform):
    """Dictionary twin of :class:`MatchColorStatistics`."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = MatchColorStatistics(mean=mean, std=std)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Match the images under the keys; the other entries are kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
