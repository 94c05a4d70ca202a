"""The choice of layers by the exact linear probe on val."""

from __future__ import annotations

import pytest

from movl_monai.backbones import ResNetBackbone
from movl_monai.engines import FeatureSet, LinearProbe, layer_losses
from movl_monai.errors import ConfigError
from tests.helpers import memory_dataset, tiny_vit


def test_losses_are_those_of_the_linear_probe_on_each_choice() -> None:
    train, val = (memory_dataset(12, size=64, seed=seed) for seed in (0, 1))
    losses = layer_losses(tiny_vit(), train, val, num_classes=2, l2=0.1, progress=False)
    assert list(losses.values()) == sorted(losses.values())
    for name, layers in {"last": "last", "all": "all", "last_third": [4, 5]}.items():
        sets = [FeatureSet(data, tiny_vit(layers=layers), progress=False) for data in (train, val)]
        assert losses[name] == pytest.approx(LinearProbe(*sets, num_classes=2, l2=0.1).solve().val_loss)
    assert len(set(losses.values())) == len(losses) == 3


def test_own_candidates_and_one_that_does_not_exist() -> None:
    backbone, data = ResNetBackbone("resnet18", image_size=32), memory_dataset(8)
    assert set(layer_losses(backbone, data, data, num_classes=2, candidates={"a": [0]}, progress=False)) == {"a"}
    with pytest.raises(ConfigError, match=r"from 0 to 3 \(resnet18 has 4 stages\), got \[4\]"):
        layer_losses(backbone, data, data, num_classes=2, candidates={"a": [4]}, progress=False)
