"""Backbones: pretrained networks that turn images in [0, 1] into features, frozen unless told otherwise."""

from .base import Backbone, BackboneSpec
from .prepare import fold_batchnorm, prepare_frozen
from .resnet import ResNetBackbone
from .timm_backbone import TimmBackbone
from .weights import Weights, WeightsFile, embedded_efficientnet_lite0

__all__ = [
    "Backbone",
    "BackboneSpec",
    "ResNetBackbone",
    "TimmBackbone",
    "Weights",
    "WeightsFile",
    "embedded_efficientnet_lite0",
    "fold_batchnorm",
    "prepare_frozen",
]
