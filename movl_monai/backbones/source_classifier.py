"""Last layer of a pretrained classifier, which backbones leave out."""

from __future__ import annotations

from typing import NamedTuple

import torch

from movl_monai.errors import WeightsError

from .weights import Weights, as_weights_file

__all__ = ["SourceClassifier", "source_classifier"]


class SourceClassifier(NamedTuple):
    """Weight (num_source, num_features) and bias (num_source,) of a linear classifier."""

    weight: torch.Tensor
    bias: torch.Tensor


def source_classifier(
    weights: Weights, *, weight_name: str = "fc.weight", bias_name: str = "fc.bias"
) -> SourceClassifier:
    """Read the classification layer of a file of pretrained weights, for label mapping.

    Args:
        weights: a file with its head.
        weight_name: name of the layer's weight in the file ("classifier.weight" in timm's EfficientNets).
        bias_name: name of its bias.

    Raises:
        WeightsError: if there is no file, or it lacks the layer.
    """
    file = as_weights_file(weights)
    if file is None:
        raise WeightsError(
            "Label mapping needs a file of weights with its classification layer, got none; name a file."
        )
    tensors = file.read()
    if weight_name not in tensors or bias_name not in tensors:
        found = [name for name, tensor in tensors.items() if tensor.ndim == 2][-3:]
        raise WeightsError(
            f"{file.name} has no '{weight_name}' and '{bias_name}'; its last matrices are {found}. "
            "Set weight_name and bias_name, or take a file with its head."
        )
    return SourceClassifier(tensors[weight_name].float(), tensors[bias_name].float())
