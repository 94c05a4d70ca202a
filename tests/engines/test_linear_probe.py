"""The exact linear probe against scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from movl_monai.adapters import DVPT, LoRA
from movl_monai.backbones import ResNetBackbone
from movl_monai.engines import (
    FeatureSet,
    LabelMappingFit,
    LinearProbe,
    extract_features,
    fit_linear_probe,
    layer_losses,
    standardization,
)
from movl_monai.engines.features import FeaturesOf
from movl_monai.errors import ConfigError, DataError
from movl_monai.heads import LabelMapping, LinearHead, MappedHead
from movl_monai.networks import AdaptedClassifier, PromptedEncoder
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_backbone, tiny_vit


def _problem(num_classes: int, count: int = 120, width: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.arange(count) % num_classes
    centers = torch.randn(num_classes, width, generator=generator, dtype=torch.float64)
    return centers[labels] + torch.randn(count, width, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("l2", [1.0, 1e-2])
def test_probabilities_equal_scikit_learns_logistic_regression(num_classes: int, l2: float) -> None:
    features, labels = _problem(num_classes)
    weight, bias = fit_linear_probe(features, labels, num_classes=num_classes, l2=l2)
    ours = torch.softmax(features @ weight.T + bias, dim=1).numpy()
    # in the binary case scikit-learn penalises one vector w where the softmax form has two, w/2 and -w/2
    strength = 1 / (len(labels) * l2) * (2 if num_classes == 2 else 1)
    oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(features.numpy(), labels.numpy())
    np.testing.assert_allclose(ours, oracle.predict_proba(features.numpy()), atol=1e-5)


def test_balanced_class_weights_equal_scikit_learns() -> None:
    features, labels = _problem(3)
    keep = torch.cat([torch.where(labels == c)[0][: 40 // (c + 1)] for c in range(3)])
    features, labels = features[keep], labels[keep]
    data = SimpleNamespace(values=features.float(), labels=labels)
    solution = LinearProbe(data, data, num_classes=3, l2=0.1, class_weights="balanced").solve()
    mean, scale = standardization(features.float().double())
    z = ((features.float().double() - mean) / scale).numpy()
    # the balanced weights sum to N, so the weighted mean equals scikit-learn's weighted sum / N
    oracle = LogisticRegression(C=1 / (len(labels) * 0.1), class_weight="balanced", tol=1e-10, max_iter=10_000)
    expected = oracle.fit(z, labels.numpy()).predict_proba(z)
    ours = torch.softmax(torch.from_numpy(z).float() @ solution.weight.T + solution.bias, dim=1).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_start_changes_the_time_and_not_the_optimum() -> None:
    features, labels = _problem(3)
    cold = fit_linear_probe(features, labels, num_classes=3, l2=0.1)
    warm = fit_linear_probe(
        features, labels, num_classes=3, l2=0.1, start=(torch.randn(3, 10).double(), torch.randn(3).double())
    )
    torch.testing.assert_close(cold[0], warm[0], atol=1e-5, rtol=0)


def test_the_l2_strength_is_the_one_with_the_smallest_validation_cross_entropy() -> None:
    train, val = (SimpleNamespace(values=f.float(), labels=y) for f, y in (_problem(3, 60), _problem(3, 90)))
    grid = [10.0, 1.0, 0.1, 0.01, 1e-4]
    chosen = LinearProbe(train, val, num_classes=3, l2=grid).solve()
    losses = {l2: LinearProbe(train, val, num_classes=3, l2=l2).solve().val_loss for l2 in grid}
    assert chosen.l2 == min(losses, key=losses.__getitem__)


def test_more_features_than_images_have_the_same_optimum() -> None:
    train, val = (SimpleNamespace(values=f.float(), labels=y) for f, y in (_problem(3, 30, 150), _problem(3, 45, 150)))
    solution = LinearProbe(train, val, num_classes=3, l2=0.01).solve()
    standard = (train.values.double() - solution.mean) / solution.scale
    weight, bias = fit_linear_probe(standard, train.labels, num_classes=3, l2=0.01)
    ours = torch.softmax(standard @ solution.weight.double().T + solution.bias, dim=1)
    torch.testing.assert_close(ours, torch.softmax(standard @ weight.T + bias, dim=1), atol=1e-4, rtol=0)


def test_standardization_centres_and_divides_by_one_scalar() -> None:
    features = torch.randn(50, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    mean, scale = standardization(features)
    z = (features - mean) / scale
    assert scale.ndim == 0
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.square().mean(), torch.tensor(1.0))
    assert standardization(torch.ones(3, 2))[1].item() == 1.0


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="at least two classes, got 4 images of 1 class"):
        fit_linear_probe(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), num_classes=2, l2=1.0)


@pytest.mark.parametrize("l2", [0.0, -1.0, [], [1.0, 0.0]])
def test_l2_strengths_must_be_positive(l2: object) -> None:
    with pytest.raises(ValueError, match="l2 must be"):
        LinearProbe(None, None, num_classes=2, l2=l2)  # type: ignore[arg-type]


class _Images:
    """Noise whose classes differ in brightness."""

    def __init__(self, count: int, seed: int) -> None:
        self.labels = [number % 2 for number in range(count)]
        noise = torch.randint(0, 128, (count, 3, 64, 64), generator=torch.Generator().manual_seed(seed))
        self.images = (noise + 60 * torch.tensor(self.labels)[:, None, None, None]).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)


@pytest.mark.parametrize("adapter", [DVPT, LoRA])
def test_the_head_is_solved_on_what_the_network_gives(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appended tokens change the features before the first step. LoRA does not: no image is computed a second time."""
    backbone = tiny_vit()
    network = AdaptedClassifier(backbone=backbone, adapter=adapter(backbone), head=LinearHead(64, 2))
    train, val = (FeatureSet(_Images(count, count), backbone, progress=False) for count in (24, 16))
    plain, own = train.values, train.extract(FeaturesOf(network))
    assert torch.allclose(plain, own, atol=1e-4) == (adapter is LoRA)
    extracted = []
    extract = FeatureSet.extract
    monkeypatch.setattr(FeatureSet, "extract", lambda *args: extracted.append(args[2:]) or extract(*args))
    probe = LinearProbe(train, val, num_classes=2, l2=0.01)
    probe.apply(network)
    assert extracted == ([(4,), ()] if adapter is LoRA else [(4,), (), ()])
    mean, scale = standardization(own.double())
    weight, bias = fit_linear_probe((own.double() - mean) / scale, train.labels, num_classes=2, l2=0.01)
    expected = ((own.double() - mean) / scale) @ weight.T + bias
    with torch.no_grad():
        found = network(train.dataset.images.float() / 255)
    torch.testing.assert_close(found, expected.float(), atol=1e-3, rtol=1e-3)


def _mapped(prompt: PadPrompt | None = None) -> AdaptedClassifier:
    backbone = tiny_backbone()
    source = torch.randn(10, backbone.spec.num_features, generator=torch.Generator().manual_seed(5))
    head = MappedHead(source, None, LabelMapping(10, 2, method="frequency"))
    return AdaptedClassifier(backbone=backbone, prompt=prompt, head=head)


def test_the_mapping_is_the_one_fitted_on_the_features_of_the_prompted_images() -> None:
    data = memory_dataset()
    network = _mapped(PadPrompt(image_size=IMAGE_SIZE, width=4, init="normal"))
    LabelMappingFit(data).apply(network)
    oracle = _mapped()
    with torch.no_grad():
        features = network.backbone(network.prompt(data.images.float() / 255))
    oracle.head.fit(features, data.labels)
    images = torch.rand(4, 3, IMAGE_SIZE, IMAGE_SIZE)
    plain = network.plain_features(images)
    torch.testing.assert_close(network.head(plain), oracle.head(plain))


def test_a_head_without_mapping_is_refused() -> None:
    backbone = tiny_backbone()
    network = AdaptedClassifier(backbone=backbone, head=LinearHead(backbone.spec.num_features, 2))
    with pytest.raises(ConfigError, match="needs a MappedHead, this network has a LinearHead"):
        LabelMappingFit(memory_dataset()).apply(network)


def test_a_prompted_encoder_sees_the_fixed_prompt_and_hashes_it() -> None:
    backbone, data = tiny_backbone(), memory_dataset(3)
    prompts = [PadPrompt(image_size=IMAGE_SIZE, width=4, init="normal", seed=seed, trainable=False) for seed in (0, 1)]
    encoders = [PromptedEncoder(prompt=prompt, backbone=backbone) for prompt in prompts]
    with torch.no_grad():
        expected = backbone(prompts[0](data.images.float() / 255))
    torch.testing.assert_close(extract_features(encoders[0], data.images, progress=False), expected)
    assert len({backbone.content_sha256(), *(encoder.content_sha256() for encoder in encoders)}) == 3
    with pytest.raises(ValueError, match="trainable=False"):
        PromptedEncoder(prompt=PadPrompt(image_size=IMAGE_SIZE, width=4), backbone=backbone)


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
