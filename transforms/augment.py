"""Random augmentation of images: geometry, brightness, contrast and noise."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import cos, radians, sin
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor, ensure_tuple

__all__ = ["RandomAugmentImage", "RandomAugmentImaged"]


class RandomAugmentImage(RandomizableTransform):
    r"""Turn, shift, scale and flip an image, and change its brightness, contrast and noise, at random.

    Geometry is one resampling step: position ``p`` of the result (from the center, in pixels) shows the image at
    position

    .. math:: R(-\theta)\,(p - t) / s

    Grey levels: :math:`y = (x - 1/2)\,c + 1/2 + b + \epsilon` with contrast ``c``, brightness ``b`` and
    :math:`\epsilon \sim N(0, \sigma^2)` that is the same in the three channels, clamped to [0, 1].

    Args:
        prob: probability of a change; 0 returns every image unchanged.
        rotate_degrees: the angle is uniform in plus or minus this, positive turning counterclockwise.
        shift: the shifts of rows and of columns are independent, each uniform in plus or minus this fraction.
        scale: the scale is uniform in (lowest, highest); 1.1 shows everything 10 % larger.
        flip: whether to mirror left and right in half of the images. Off by default: the heart is on one side, and a
            flipped radiograph shows situs inversus.
        brightness: ``b`` is uniform in plus or minus this.
        contrast: ``c`` is uniform in (lowest, highest).
        noise: the standard deviation is uniform from 0 to this, on the scale where white is 1.

    Raises:
        ValueError: if a probability or range is impossible.

    Example:
        >>> augment = RandomAugmentImage(prob=1.0).set_random_state(seed=0)
        >>> image = augment(torch.full((3, 8, 8), 0.5))
        >>> image.shape, bool(((image >= 0) & (image <= 1)).all())
        (torch.Size([3, 8, 8]), True)
    """

    def __init__(
        self,
        *,
        prob: float = 0.9,
        rotate_degrees: float = 7.0,
        shift: float = 0.05,
        scale: Sequence[float] = (0.9, 1.1),
        flip: bool = False,
        brightness: float = 0.1,
        contrast: Sequence[float] = (0.8, 1.25),
        noise: float = 0.02,
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {prob}.")
        for name, largest, limit in (
            ("rotate_degrees", rotate_degrees, 180),
            ("shift", shift, 1),
            ("brightness", brightness, 1),
            ("noise", noise, 1),
        ):
            if not 0 <= largest <= limit:
                raise ValueError(f"{name} must be in [0, {limit}], got {largest}.")
        for name, limits in (("scale", scale), ("contrast", contrast)):
            if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
                raise ValueError(f"{name} must be (lowest, highest) with 0 < lowest <= highest, got {limits!r}.")
        RandomizableTransform.__init__(self, prob)
        self.rotate_degrees = rotate_degrees
        self.shift = shift
        self.scale = (scale[0], scale[1])
        self.flip = flip
        self.brightness = brightness
        self.contrast = (contrast[0], contrast[1])
        self.noise = noise
        self._drawn: dict[str, Any] = {}

    def randomize(self, data: Any = None) -> None:
        """Draw the numbers of the next image from ``self.R``."""
        super().randomize(None)
        # always the same number of draws, so that no option changes the draws of the others
        self._drawn = {
            "angle": self.R.uniform(-self.rotate_degrees, self.rotate_degrees),
            "shift": self.R.uniform(-self.shift, self.shift, 2),
            "scale": self.R.uniform(*self.scale),
            "flip": bool(self.R.random_sample() < 0.5) and self.flip,
            "brightness": self.R.uniform(-self.brightness, self.brightness),
            "contrast": self.R.uniform(*self.contrast),
            "sigma": self.R.uniform(0, self.noise),
            "seed": int(self.R.randint(2**31)),
        }

    def __call__(self, image: NdarrayOrTensor, randomize: bool = True) -> torch.Tensor:
        """Vary an image.

        Args:
            image: floating (C, H, W) in [0, 1].
            randomize: whether to draw anew; False repeats the draw of the last image.

        Returns:
            float32 (C, H, W) in [0, 1].

        Raises:
            ValueError: if the image is not floating (C, H, W).
        """
        pixels = convert_to_tensor(image, track_meta=False)
        if pixels.ndim != 3 or not pixels.is_floating_point():
            raise ValueError(
                f"image must be floating (C, H, W) in [0, 1], got {pixels.dtype} {tuple(pixels.shape)}; augment before"
                " it becomes uint8."
            )
        pixels = pixels.to(torch.float32)
        if randomize:
            self.randomize()
        if not self._do_transform:
            return pixels
        return self._levels(self._geometry(pixels)).clamp_(0, 1)

    def move_mask(self, mask: NdarrayOrTensor) -> torch.Tensor:
        """Move a mask as the last image was moved, by nearest neighbours; outside is 0, the background.

        Args:
            mask: (C, H, W), integers.

        Returns:
            (C, H, W) of the same dtype, with no new values.
        """
        values = convert_to_tensor(mask, track_meta=False)
        if not self._do_transform:
            return values
        return self._geometry(values.to(torch.float32), interpolation="nearest").to(values.dtype)

    def _geometry(self, pixels: torch.Tensor, *, interpolation: str = "bilinear") -> torch.Tensor:
        drawn = self._drawn
        if drawn["flip"]:
            pixels = pixels.flip(-1)
        if drawn["angle"] == 0 and drawn["scale"] == 1 and not drawn["shift"].any():
            return pixels
        rows, columns = pixels.shape[1:]
        c, s = cos(radians(drawn["angle"])) / drawn["scale"], sin(radians(drawn["angle"])) / drawn["scale"]
        down, right = drawn["shift"] * (rows, columns)
        # from result to source, in pixels (x right, y down); then in the units of affine_grid, where an image spans 2
        inverse = np.array([[c, -s, -(c * right - s * down)], [s, c, -(s * right + c * down)]])
        half = np.array([columns, rows]) / 2
        theta = inverse * np.append(half, 1.0) / half[:, None]
        grid = F.affine_grid(
            torch.as_tensor(theta[None], dtype=torch.float32, device=pixels.device),
            [1, *pixels.shape],
            align_corners=False,
        )
        # black outside, as pads and collimated borders are
        return F.grid_sample(pixels[None], grid, mode=interpolation, padding_mode="zeros", align_corners=False)[0]

    def _levels(self, pixels: torch.Tensor) -> torch.Tensor:
        drawn = self._drawn
        levels = (pixels - 0.5) * drawn["contrast"] + (0.5 + drawn["brightness"])
        if drawn["sigma"] == 0:
            return levels
        # on the CPU, so that a seed means the same noise on every device
        generator = torch.Generator().manual_seed(drawn["seed"])
        noise = torch.randn((1, *pixels.shape[1:]), generator=generator)
        return levels + noise.to(pixels.device) * drawn["sigma"]


class RandomAugmentImaged(MapTransform, RandomizableTransform):
    """Dictionary twin of :class:`RandomAugmentImage`: one draw for all keys, so that they stay aligned.

    Args:
        keys: of the images.
        mask_keys: of the masks, which move with the images and keep their values.
        allow_missing_keys: whether items may lack a key.

    The other arguments are those of :class:`RandomAugmentImage`.

    Raises:
        ValueError: for impossible options.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.9,
        rotate_degrees: float = 7.0,
        shift: float = 0.05,
        scale: Sequence[float] = (0.9, 1.1),
        flip: bool = False,
        brightness: float = 0.1,
        contrast: Sequence[float] = (0.8, 1.25),
        noise: float = 0.02,
        mask_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.mask_keys = ensure_tuple(mask_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.transform = RandomAugmentImage(
            prob=prob,
            rotate_degrees=rotate_degrees,
            shift=shift,
            scale=scale,
            flip=flip,
            brightness=brightness,
            contrast=contrast,
            noise=noise,
        )

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandomAugmentImaged:
        """Seed the draws."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Vary the images under the keys alike; the other entries are kept."""
        result = dict(data)
        self.transform.randomize()
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key], randomize=False)
        for key in self.mask_keys:
            if key in result or not self.allow_missing_keys:
                result[key] = self.transform.move_mask(result[key])
        return result
