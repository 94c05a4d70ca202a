"""Every adapter, prompt, head and kind of backbone can be exported for any batch size; the rows are in `cases.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.backbones import Backbone, TimmBackbone, UNetBackbone
from movl_monai.export import read_exported
from movl_monai.export.graph import exportable
from movl_monai.heads import FirstMapHead
from movl_monai.networks import AdaptedClassifier
from tests.cases import ADAPTERS, BACKBONES, HEADS, LAYERED, PROMPTS, TRANSFORMERS
from tests.export.networks import CLASS_NAMES, classifier, images, metadata_of, perturbed, segmenter, write
from tests.helpers import IMAGE_SIZE, tiny_backbone, tiny_clip, tiny_swin

Make = Callable[[], Any]


def _small_vit() -> Backbone:
    return TimmBackbone("test_vit", image_size=IMAGE_SIZE, model_options={"depth": 2})


def _named(cases: list[Any], name: str) -> Any:
    return next(case for case in cases if case.name == name)


def _adapted(make_backbone: Callable[[], Backbone], adapter: Any) -> Make:
    def make() -> AdaptedClassifier:
        backbone = make_backbone()
        return classifier(backbone, adapter=adapter.make(backbone))

    return make


def _with_head(head: Any) -> Make:
    def make() -> AdaptedClassifier:
        backbone = tiny_backbone()
        head_module = head.make(backbone.spec.num_features)
        return perturbed(AdaptedClassifier(backbone=backbone, head=head_module, class_names=CLASS_NAMES))

    return make


def _segmenter(make_backbone: Callable[[], Backbone], adapter: str | None = None) -> Make:
    def make() -> Any:
        backbone = make_backbone()
        return segmenter(backbone, adapter=None if adapter is None else _named(ADAPTERS, adapter).make(backbone))

    return make


def _unet() -> Any:
    backbone = UNetBackbone(len(CLASS_NAMES), image_size=IMAGE_SIZE, features=[4] * 6)
    return segmenter(backbone, head=FirstMapHead(len(CLASS_NAMES)))


# exporting takes seconds: what differs by a number only (blocks, sharing, rank) and the identity have one row
_ALIKE = ("dvpt_unshared", "dvpt_last_blocks", "lora", "none", "random_border", "pad", "full_image", "patch")

ROWS: dict[str, Make] = {
    **{f"adapter-{one.name}-vit": _adapted(_small_vit, one) for one in ADAPTERS if one.name not in _ALIKE},
    **{f"adapter-{name}-swin": _adapted(tiny_swin, _named(ADAPTERS, name)) for name in ("dvpt", "ssf")},
    **{f"adapter-{name}-clip": _adapted(tiny_clip, _named(ADAPTERS, name)) for name in ("vpt_deep", "lora_all")},
    **{
        f"prompt-{one.name}": (lambda one=one: classifier(tiny_backbone(), prompt=one.make()))
        for one in PROMPTS
        if one.name not in _ALIKE
    },
    **{f"backbone-{one.name}": (lambda one=one: classifier(one.make())) for one in (BACKBONES[0], TRANSFORMERS[2])},
    **{f"head-{one.name}": _with_head(one) for one in HEADS[1:]},
    **{f"layers-{one.name}": (lambda one=one: classifier(one.make())) for one in LAYERED},
    "layers-dvpt-vit": _adapted(lambda: LAYERED[0].make(), _named(ADAPTERS, "dvpt_last_blocks")),
    "layers-lora-swin": _adapted(lambda: tiny_swin(layers=[1]), _named(ADAPTERS, "lora")),
    "fine_tuned": lambda: classifier(tiny_backbone(frozen=False)),
    "segmenter-resnet18": _segmenter(BACKBONES[0].make),
    "segmenter-vit": _segmenter(_small_vit, "dvpt"),
    "segmenter-lora": _segmenter(_small_vit, "lora"),
    "segmenter-swin": _segmenter(tiny_swin, "dvpt"),
    "segmenter-unet": _unet,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_onnx_predicts_as_the_network_for_any_batch_size(name: str, tmp_path: Path) -> None:
    network = ROWS[name]()
    model = read_exported(write(network, tmp_path, "onnx"), num_threads=1)
    for count in (1, 3):
        image = images(count)
        with torch.no_grad():
            expected = network(image).numpy()
        got = model(image.numpy())
        np.testing.assert_allclose(got.logits, expected, atol=2e-5)
        assert np.ptp(expected) > 1e-3  # something to compare
        if got.features is not None:
            with torch.no_grad():
                np.testing.assert_allclose(got.features, network.features(image).numpy(), atol=2e-5)


@pytest.mark.parametrize("form", ["torchscript", "torch-export"])
@pytest.mark.parametrize(
    "name", ["adapter-dvpt-vit", "adapter-vpt_deep-clip", "segmenter-swin", "layers-dvpt-vit", "layers-efficientnet"]
)
def test_the_formats_of_torch_predict_as_the_network(name: str, form: Any, tmp_path: Path) -> None:
    network = ROWS[name]()
    model = read_exported(write(network, tmp_path, form))
    for count in (1, 3):
        with torch.no_grad():
            expected = network(images(count)).numpy()
        np.testing.assert_allclose(model(images(count).numpy()).logits, expected, atol=2e-5)


@pytest.mark.parametrize("name", ["lora", "ssf", "bitfit"])
def test_adapters_that_change_layers_are_merged_and_cost_nothing(name: str) -> None:
    network = _adapted(_small_vit, _named(ADAPTERS, name))()
    graph = exportable(network)
    assert graph.network.adapter is None
    assert network.adapter is not None
    frozen = sum(parameter.numel() for parameter in network.backbone.parameters())
    assert sum(parameter.numel() for parameter in graph.network.backbone.parameters()) == frozen
    with torch.no_grad():
        torch.testing.assert_close(graph(images(2))[0], network(images(2)), atol=1e-5, rtol=1e-5)


def test_exporting_leaves_the_network_as_it_is(tmp_path: Path) -> None:
    network = classifier().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trains = [parameter.requires_grad for parameter in network.parameters()]
    described = metadata_of(network)
    write(network, tmp_path, "torchscript")
    assert network.training
    assert [parameter.requires_grad for parameter in network.parameters()] == trains
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert metadata_of(network) == described
