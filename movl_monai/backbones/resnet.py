"""ResNets of torchvision as backbones, with the strides of torchvision (v1.5) or of the paper (v1)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from movl_monai.errors import ConfigError

from .base import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec
from .layers import Layers
from .weights import Weights, as_weights_file, describe_weights, from_hub, load_weights, seeded

if TYPE_CHECKING:
    from torchvision.models import ResNet

__all__ = ["ResNetArch", "ResNetBackbone"]

_LOGGER = logging.getLogger(__name__)

ResNetArch = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]


class ResNetBackbone(Backbone):
    """ResNet without its classifier; the features are the mean over the last feature map.

    Args:
        arch: a ResNet of torchvision.
        weights: None or "random" for random weights, "hub" for torchvision's best (downloads), a file in
            torchvision's names with or without ``fc``, or a :class:`~movl_monai.backbones.WeightsFile`.
        strides: "v1.5" halves the map in the 3x3 convolution of a stage's first bottleneck (torchvision), "v1" in its
            first 1x1 convolution (He et al. 2016, Caffe and Keras weights). The tensors are the same, the features
            differ. Without effect in resnet18 and resnet34, whose blocks have no 1x1 convolution before the 3x3.
        mean: mean of R, G, B in [0, 1]; None uses the file's, or else ImageNet's.
        std: standard deviation of R, G, B; None as for ``mean``.
        image_size: side of the images in pixels; any size >= 32 works, this one is recorded.
        frozen: no gradients, and eval mode permanently; see :class:`~movl_monai.backbones.Backbone`.
        batchnorm_eval: keep BatchNorm in eval mode when not frozen.
        layers: "last", "all" or numbers; see :class:`~movl_monai.backbones.Backbone`.
        seed: of random weights.

    Raises:
        ConfigError: if ``arch`` or ``strides`` is unknown, or "hub" weights, which are v1.5, are combined with v1.
        WeightsError: if the weights cannot be loaded or do not fit.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.1 ("v1").

    Example:
        >>> backbone = ResNetBackbone("resnet18", image_size=64)
        >>> backbone(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 512])
        >>> [tuple(feature_map.shape[1:]) for feature_map in backbone.forward_features(torch.rand(2, 3, 64, 64))]
        [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    """

    if TYPE_CHECKING:  # TorchScript reads runtime annotations and knows no such type
        encoder: ResNet

    def __init__(
        self,
        arch: ResNetArch = "resnet50",
        *,
        weights: Weights = None,
        strides: Literal["v1.5", "v1"] = "v1.5",
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        image_size: int = 224,
        frozen: bool = True,
        batchnorm_eval: bool = False,
        layers: Layers = "last",
        seed: int = 0,
    ) -> None:
        _check_options(arch, weights=weights, strides=strides)
        file = as_weights_file(weights)
        encoder, num_features = _build(arch, weights=weights, seed=seed)
        if file is not None:
            dropped = load_weights(encoder, file, head=("fc",))
            _LOGGER.info("%s: loaded %s, left out %s", arch, file.name, dropped or "nothing")
        v1 = strides == "v1" and _move_strides(encoder)
        spec = BackboneSpec(
            name=f"{arch}_v1" if v1 else arch,
            image_size=image_size,
            mean=mean or (file and file.mean) or IMAGENET_MEAN,
            std=std or (file and file.std) or IMAGENET_STD,
            num_features=num_features,
            strides=(4, 8, 16, 32),
            **describe_weights(weights, seed=seed, hub=f"torchvision {arch}, default weights"),
        )
        super().__init__(encoder, spec, frozen=frozen, batchnorm_eval=batchnorm_eval, layers=layers)

    def forward_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the outputs of layer1 to layer4, strides 4, 8, 16 and 32."""
        x = self.normalize(image)
        x = self.encoder.maxpool(self.encoder.relu(self.encoder.bn1(self.encoder.conv1(x))))
        c2 = self.encoder.layer1(x)
        c3 = self.encoder.layer2(c2)
        c4 = self.encoder.layer3(c3)
        return [c2, c3, c4, self.encoder.layer4(c4)]


def _check_options(arch: str, *, weights: Weights, strides: str) -> None:
    if arch not in get_args(ResNetArch):
        raise ConfigError(f"arch must be one of {', '.join(get_args(ResNetArch))}, got {arch!r}.")
    if strides not in ("v1.5", "v1"):
        raise ConfigError(f"strides must be 'v1.5' (torchvision) or 'v1' (He et al., Caffe, Keras), got {strides!r}.")
    if strides == "v1" and weights == "hub":
        raise ConfigError("torchvision's weights are made for strides='v1.5', got 'v1'; give a file for v1.")


def _build(arch: str, *, weights: Weights, seed: int) -> tuple[Any, int]:
    from torchvision import models

    if weights == "hub":
        model: Any = from_hub(arch, lambda: models.get_model(arch, weights="DEFAULT", progress=False))
    else:
        with seeded(seed):
            model = models.get_model(arch, weights=None)
    num_features = model.fc.in_features
    model.fc = nn.Identity()
    return model, num_features


def _move_strides(encoder: Any) -> bool:
    """Move the stride of layer2, layer3 and layer4 to the first 1x1 convolution; False if the blocks have none."""
    for layer in (encoder.layer2, encoder.layer3, encoder.layer4):
        block = layer[0]
        if not hasattr(block, "conv3"):
            return False
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return True
