"""Tiny networks with their exported files, shared by the tests of the exporters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from movl_monai.backbones import Backbone, map_channels, prepare_frozen
from movl_monai.export.graph import exportable
from movl_monai.export.sealed import SUFFIXES, ExportFormat, describe_network
from movl_monai.export.writers import compile_graph, neighbor, write_compiled
from movl_monai.heads import LinearHead, SegmentationHead
from movl_monai.networks import AdaptedClassifier, AdaptedSegmenter
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone

CLASS_NAMES = ["a", "b", "c"]


def perturbed(network: nn.Module) -> Any:
    """Return the network with all trainable parameters moved away from their start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith(("backbone.", "adapted.")):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def classifier(backbone: Backbone | None = None, **parts: Any) -> AdaptedClassifier:
    backbone = backbone or prepare_frozen(tiny_backbone())
    parts = (
        {"prompt": PadPrompt(image_size=IMAGE_SIZE, width=4), **parts} if backbone.spec.patch_size is None else parts
    )
    head = LinearHead(backbone.spec.num_features, len(CLASS_NAMES), init="uniform")
    return perturbed(AdaptedClassifier(backbone=backbone, head=head, class_names=CLASS_NAMES, **parts))


def segmenter(backbone: Backbone | None = None, **parts: Any) -> AdaptedSegmenter:
    backbone = backbone or prepare_frozen(tiny_backbone())
    head = parts.pop("head", None) or SegmentationHead(map_channels(backbone), len(CLASS_NAMES), width=16, bottleneck=4)
    return perturbed(AdaptedSegmenter(backbone=backbone, head=head, class_names=CLASS_NAMES, **parts))


def images(count: int, *, size: int = IMAGE_SIZE) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def metadata_of(network: Any, *, size: int = IMAGE_SIZE, **entries: Any) -> dict[str, Any]:
    task = "classification" if isinstance(network, AdaptedClassifier) else "segmentation"
    described = describe_network(network, task=task, input_size=(size, size))
    compose = {"_target_": "monai.transforms.Compose", "transforms": []}
    return described | {"image_size": [size, size], "windows": None, "preprocessing": compose} | entries


def write(network: Any, folder: Path, form: ExportFormat, *, size: int = IMAGE_SIZE, **entries: Any) -> Path:
    path = folder / f"model{SUFFIXES[form]}"
    compiled = compile_graph(exportable(network), form, size=(size, size))
    with neighbor(path) as temporary:
        write_compiled(compiled, temporary, metadata=metadata_of(network, size=size, **entries), trust="QUJD")
    return path
