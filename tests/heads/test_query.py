"""QueryHead: the paper's formula, the probe at the start, tokens of every kind of backbone, cached training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.adapters import DVPT, SSF
from movl_monai.backbones import Backbone, BackboneSpec, ResNetBackbone, TimmBackbone
from movl_monai.engines import FeatureSet, LinearProbe, Stage, StagedTrainer, TokenSet, optimizer_groups
from movl_monai.errors import CheckpointMismatchError, ConfigError
from movl_monai.experiments.robustness.suite import plain_backbone
from movl_monai.export import read_exported
from movl_monai.heads import LinearHead, QueryHead
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier, token_width
from tests.export.networks import CLASS_NAMES, images, perturbed, write
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_backbone, tiny_clip, tiny_swin, tiny_vit

# by name: the backbone, and (tokens, width) that a head reads of its images
BACKBONES: dict[str, tuple[Callable[..., Backbone], tuple[int, int]]] = {
    "vit": (tiny_vit, (16, 64)),
    "vit_layers": (lambda: tiny_vit(layers=[1, 3]), (16, 64)),
    "vit_mean": (lambda: tiny_vit(model_options={"global_pool": "avg"}), (16, 64)),
    "swin": (tiny_swin, (16, 32)),
    "clip": (tiny_clip, (16, 32)),
    "efficientnet": (lambda: TimmBackbone("test_efficientnet", image_size=64), (4, 256)),
    "resnet18": (lambda: ResNetBackbone("resnet18", image_size=64), (4, 512)),
}
every = pytest.mark.parametrize("name", BACKBONES)


def _network(backbone: Backbone, *, num_queries: int = 4, num_classes: int = 3, **parts: Any) -> AdaptedClassifier:
    head = QueryHead(
        backbone.spec.num_features, num_classes, token_width=token_width(backbone), num_queries=num_queries
    )
    names = CLASS_NAMES[:num_classes]
    return AdaptedClassifier(backbone=backbone, head=head, class_names=names, **parts)


def test_the_logits_are_the_formula_in_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    head = QueryHead(5, 3, token_width=6, num_queries=2, value_width=8)
    for parameter in head.parameters():
        parameter.data.normal_(generator=generator)
    features, tokens = torch.randn(2, 5, generator=generator), 3 + torch.randn(2, 7, 6, generator=generator)
    values = torch.cat(list(head.values), dim=1)  # W_v (d, values)
    for image in range(2):
        rows = [(token - token.mean()) / (token.var(unbiased=False) + 1e-5).sqrt() for token in tokens[image]]
        read = []
        for query in range(2):
            scores = torch.stack([head.queries[query] @ row / math.sqrt(6) for row in rows]).softmax(dim=0)
            mean = sum(score * (row @ values) for score, row in zip(scores, rows, strict=True))
            read.append(mean[4 * query : 4 * (query + 1)])  # type: ignore[index]
            torch.testing.assert_close(head.attention(tokens)[image, query], scores)
        expected = head.linear(features[image]) + head.output @ torch.cat(read)
        torch.testing.assert_close(head(features, tokens)[image], expected, atol=1e-5, rtol=1e-5)


@every
def test_tokens_are_those_of_the_last_block_and_features_those_of_the_backbone(name: str) -> None:
    make, (count, width) = BACKBONES[name]
    backbone = make()
    network, image = _network(backbone).eval(), images(2, size=backbone.spec.image_size)
    features, tokens = network.adapted.with_tokens(backbone.normalize(image))
    assert tokens.shape == (2, count, width)
    torch.testing.assert_close(features, backbone(image), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.features(image), features)
    if name in ("vit", "efficientnet", "resnet18"):  # whose maps are the tokens, behind the last LayerNorm
        last = backbone.forward_features(image)[-1]
        if last.shape[1] == width:
            torch.testing.assert_close(tokens.transpose(1, 2).reshape(last.shape), last, atol=1e-5, rtol=1e-5)


@every
def test_training_starts_at_the_exact_probe_and_changes_the_head_alone(name: str) -> None:
    backbone = BACKBONES[name][0]()
    data = memory_dataset(12, size=backbone.spec.image_size)
    features = FeatureSet(data, backbone, progress=False)
    network = _network(backbone, num_classes=2)
    plain = AdaptedClassifier(backbone=backbone, head=LinearHead(backbone.spec.num_features, 2))
    probe = LinearProbe(features, features, num_classes=2, l2=0.1)
    probe.apply(network), probe.apply(plain)
    image = data.images.float() / 255
    before = {key: value.clone() for key, value in network.named_parameters()}
    torch.testing.assert_close(network(image), plain(image), atol=1e-5, rtol=1e-5)
    _train(network, data, None, head_solver=probe, features=features)
    changed = {key for key, value in network.named_parameters() if not torch.equal(before[key], value)}
    assert changed == {f"head.{key}" for key in ("queries", "values", "output", "linear.weight", "linear.bias")}


def _train(network: AdaptedClassifier, data: Any, tokens: TokenSet | None, **options: Any) -> None:
    StagedTrainer(
        device="cpu",
        network=network,
        stages=[Stage(epochs=3, lr={"head": 0.1}, solve_head="head_solver" in options)],
        max_epochs=3,
        optimizer=torch.optim.SGD(optimizer_groups(network), lr=0.1),
        loss_function=MoVLLoss(weight=0),
        train_data_loader=torch.utils.data.DataLoader(data, batch_size=5),
        tokens=tokens,
        **options,
    ).run()


@every
def test_cached_tokens_train_as_images_do(name: str, tmp_path: Path) -> None:
    states = []
    for cached in (False, True):
        backbone = BACKBONES[name][0]()
        data = memory_dataset(12, size=backbone.spec.image_size)
        network = _network(backbone, num_classes=2)
        start = {key: value.clone() for key, value in network.state_dict().items()}
        tokens = TokenSet(data, network, cache_dir=tmp_path, progress=False) if cached else None
        if tokens is not None:
            _ = tokens.values
            network.adapted.last_map = network.backbone.forward = None  # type: ignore[assignment] - not run again
        _train(network, data, tokens)
        states.append(network.state_dict())
    for key, value in states[0].items():
        moved = (value.float() - start[key].float()).abs().max()
        assert (states[1][key].float() - value.float()).abs().max() <= 0.05 * moved + 1e-6, key


@every
@pytest.mark.parametrize("form", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_exported_files_predict_as_the_network(name: str, form: Any, tmp_path: Path) -> None:
    backbone = BACKBONES[name][0]()
    network, size = perturbed(_network(backbone)), backbone.spec.image_size
    model = read_exported(write(network, tmp_path, form, size=size), num_threads=1)
    for count in (1, 3):
        image = images(count, size=size)
        got = model(image.numpy())
        with torch.no_grad():
            logits, features = network.outputs(image)
        np.testing.assert_allclose(got.logits, logits.numpy(), atol=1e-4)
        np.testing.assert_allclose(got.features, features.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda b: SSF(b), lambda b: DVPT(b, num_prompts=3, bottleneck=4)], ids=["ssf", "dvpt"]
)
def test_an_adapter_is_seen_in_the_tokens_and_its_own_are_left_out(make: Callable[..., Any]) -> None:
    backbone = tiny_vit()
    network = perturbed(_network(backbone, adapter=make(backbone)))
    image = images(2, size=64)
    _, tokens = network.adapted.with_tokens(backbone.normalize(image))
    assert tokens.shape == (2, 16, 64)
    _, plain = _network(backbone).adapted.with_tokens(backbone.normalize(image))
    assert not torch.allclose(tokens, plain, atol=1e-3)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-5, rtol=1e-5)


def test_a_checkpoint_comes_back_and_refuses_another_number_of_queries() -> None:
    trained, loaded = perturbed(_network(tiny_backbone())), _network(tiny_backbone()).eval()
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded(images(2)), trained(images(2)))
    assert not any(key.startswith(("adapted.", "backbone.")) for key in trained.state_dict())
    with pytest.raises(CheckpointMismatchError, match=r"num_queries=4.*num_queries=8"):
        _network(tiny_backbone(), num_queries=8).load_state_dict(trained.state_dict())


def test_its_logits_are_not_computed_from_shared_features() -> None:
    assert plain_backbone(_network(tiny_backbone())) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_queries": 0}, r"num_queries must be at least 1 and divide the 384 values.*got 0.*one of \[1, 2, 3, 4"),
        ({"num_queries": 5}, "num_queries must be .*got 5"),
        ({"num_queries": 2.0}, "num_queries must be .*got 2.0"),
        ({"num_queries": 8, "value_width": 36}, "divide the 36 values"),
    ],
)
def test_a_number_of_queries_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QueryHead(384, 2, token_width=384, **options)


def test_backbones_without_such_tokens_are_refused() -> None:
    spec = BackboneSpec(name="mean", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, num_features=3)
    pooled = Backbone(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), spec)
    head = QueryHead(3, 2, token_width=4, num_queries=2)
    with pytest.raises(ConfigError, match="mean gives no tokens to a head"):
        AdaptedClassifier(backbone=pooled, head=head)
    with pytest.raises(ConfigError, match='set layers to "last"'):
        token_width(tiny_backbone(layers=[1, 3]))
    with pytest.raises(ConfigError, match="set frozen to true, or take a LinearHead"):
        _network(tiny_vit(frozen=False))
    with pytest.raises(ConfigError, match="tokens of width 32, test_vit gives 64"):
        AdaptedClassifier(backbone=tiny_vit(), head=QueryHead(64, 2, token_width=32))


def test_settings_that_need_other_than_the_last_tokens_are_refused() -> None:
    backbone = TimmBackbone("test_vit", image_size=IMAGE_SIZE)
    network, data = _network(backbone, num_classes=2), memory_dataset(4)
    with pytest.raises(ConfigError, match="the head alone trains: give 6"):
        TokenSet(data, network, start=2)
    with pytest.raises(ConfigError, match="Set discrepancy_weight to 0, or take a LinearHead"):
        StagedTrainer(
            device="cpu",
            network=network,
            stages=[Stage(epochs=1, lr={"head": 0.1})],
            max_epochs=1,
            optimizer=torch.optim.SGD(optimizer_groups(network), lr=0.1),
            loss_function=MoVLLoss(weight=1.0),
            train_data_loader=torch.utils.data.DataLoader(data),
        )
