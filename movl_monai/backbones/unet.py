"""MONAI's BasicUNet from scratch in the place of a backbone, as the usual baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from movl_monai.errors import ConfigError

from .base import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec
from .weights import seeded

__all__ = ["UNetBackbone"]


class UNetBackbone(Backbone):
    """2D BasicUNet of MONAI with random weights, whose only map are the logits of every pixel.

    It replaces a pretrained backbone, so that data, training and evaluation are the same for both. All of it is
    trained: its head has nothing to learn (:class:`~movl_monai.heads.FirstMapHead`).

    Args:
        out_channels: channels of the map, the number of classes.
        image_size: side of the images in pixels, >= 32, because a coarsest level of one pixel has no variance for
            normalisation; other sizes work too, this one is recorded. At an odd level MONAI pads the upsampled map by a
            copy of the last row and column.
        features: channels of the five levels and of the last layer.
        frozen: must be False, as random weights are useless without training.
        seed: of the weights.

    Raises:
        ConfigError: if ``frozen`` is True, ``image_size`` is below 32, or there are not six features.

    Reference:
        Ronneberger et al., U-Net, MICCAI 2015; ``monai.networks.nets.BasicUNet``.

    Example:
        >>> unet = UNetBackbone(2, image_size=32, features=[4, 4, 4, 4, 4, 4])
        >>> [tuple(one.shape) for one in unet.forward_features(torch.rand(1, 3, 32, 32))]
        [(1, 2, 32, 32)]
    """

    def __init__(
        self,
        out_channels: int,
        *,
        image_size: int = 224,
        features: Sequence[int] = (32, 32, 64, 128, 256, 32),
        frozen: bool = False,
        seed: int = 0,
    ) -> None:
        from monai.networks.nets import BasicUNet

        if frozen:
            raise ConfigError("A UNet from scratch must train; set frozen (backbone_frozen) to false.")
        if image_size < 32 or len(features) != 6:
            raise ConfigError(
                "A BasicUNet halves the image four times, so it needs an image_size of 32 or more, and six features; "
                f"got {image_size} and {list(features)}."
            )
        with seeded(seed):
            encoder = BasicUNet(spatial_dims=2, in_channels=3, out_channels=out_channels, features=tuple(features))
        spec = BackboneSpec(
            name=f"monai_basic_unet ({', '.join(map(str, features))})",
            image_size=image_size,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            num_features=out_channels,
            strides=(1,),
            weights=f"random, seed {seed}",
        )
        super().__init__(encoder, spec, frozen=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the mean of the map, (B, out_channels)."""
        return self.encoder(self.normalize(image)).mean(dim=(2, 3))

    def forward_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the only map, (B, out_channels, H, W)."""
        return [self.encoder(self.normalize(image))]
