"""The classification layer that a file of weights carries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from movl_monai.backbones import embedded_efficientnet_lite0, source_classifier
from movl_monai.errors import WeightsError


def test_the_layer_is_read_as_it_is_in_the_file(tmp_path: Path) -> None:
    tensors = {"fc.weight": torch.randn(5, 3), "fc.bias": torch.randn(5), "conv.weight": torch.randn(2, 2)}
    save_file(tensors, tmp_path / "weights.safetensors")
    layer = source_classifier(str(tmp_path / "weights.safetensors"))
    assert torch.equal(layer.weight, tensors["fc.weight"])
    assert torch.equal(layer.bias, tensors["fc.bias"])


def test_the_embedded_weights_have_a_head_of_1000_classes() -> None:
    layer = source_classifier(embedded_efficientnet_lite0(), weight_name="_fc.weight", bias_name="_fc.bias")
    assert layer.weight.shape == (1000, 1280)
    assert layer.bias.shape == (1000,)


def test_a_file_without_that_layer_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    save_file({"head.weight": torch.randn(5, 3)}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"its last matrices are \['head.weight'\]"):
        source_classifier(str(tmp_path / "weights.safetensors"))
    with pytest.raises(WeightsError, match="got none; name a file"):
        source_classifier(None)
