"""Backbones: pretrained networks from images in [0, 1] to features, frozen by default."""

from .base import Backbone, BackboneSpec
from .clip_backbone import CLIPBackbone
from .clip_loading import ClassEmbeddings, class_prompts, encode_class_names
from .layers import Layers
from .prepare import fold_batchnorm, prepare_frozen
from .resnet import ResNetBackbone
from .stage_maps import map_channels
from .timm_backbone import TimmBackbone
from .token_path import TokenLayout, TokenPath, share_tensors
from .unet import UNetBackbone
from .weights import SourceClassifier, Weights, WeightsFile, embedded_efficientnet_lite0, source_classifier

__all__ = [
    "Backbone",
    "BackboneSpec",
    "CLIPBackbone",
    "ClassEmbeddings",
    "Layers",
    "ResNetBackbone",
    "SourceClassifier",
    "TimmBackbone",
    "TokenLayout",
    "TokenPath",
    "UNetBackbone",
    "Weights",
    "WeightsFile",
    "class_prompts",
    "embedded_efficientnet_lite0",
    "encode_class_names",
    "fold_batchnorm",
    "map_channels",
    "prepare_frozen",
    "share_tensors",
    "source_classifier",
]
