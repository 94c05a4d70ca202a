"""Tests that every method passes; its rows are in `cases.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.networks import AdaptedClassifier, load_checkpoint, save_atomically
from tests.cases import (
    ADAPTERS,
    BACKBONES,
    HEADS,
    LAYERED,
    NO_ADAPTER,
    NUM_CLASSES,
    PROMPTS,
    TRANSFORMERS,
    AdapterCase,
    BackboneCase,
    HeadCase,
    PromptCase,
)
from tests.helpers import IMAGE_SIZE

# every prompt on one backbone, every backbone with one prompt, every head on one backbone, and every adapter with a
# prompt on every Transformer that hosts it
ROWS = [
    *(pytest.param(BACKBONES[2], prompt, HEADS[0], NO_ADAPTER, id=f"prompt-{prompt.name}") for prompt in PROMPTS),
    *(pytest.param(one, PROMPTS[1], HEADS[0], NO_ADAPTER, id=f"backbone-{one.name}") for one in BACKBONES),
    *(pytest.param(BACKBONES[2], PROMPTS[1], head, NO_ADAPTER, id=f"head-{head.name}") for head in HEADS),
    *(
        pytest.param(backbone, PROMPTS[1], HEADS[0], adapter, id=f"adapter-{adapter.name}-{backbone.name}")
        for adapter in ADAPTERS
        for backbone in TRANSFORMERS
        if backbone.name in adapter.hosted
    ),
    *(pytest.param(one, PROMPTS[1], HEADS[0], NO_ADAPTER, id=f"layers-{one.name}") for one in LAYERED),
    *(
        pytest.param(LAYERED[0], PROMPTS[1], HEADS[0], adapter, id=f"layers-{adapter.name}-vit")
        for adapter in ADAPTERS
        if adapter.name in ("dvpt", "dvpt_last_blocks", "vpt_deep", "lora")
    ),
]
battery = pytest.mark.parametrize(("backbone", "prompt", "head", "adapter"), ROWS)


def _network(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase, **options: object
) -> AdaptedClassifier:
    encoder = backbone.make(**options)
    return AdaptedClassifier(
        backbone=encoder,
        prompt=prompt.make(),
        adapter=None if adapter.make is None else adapter.make(encoder),
        head=head.make(encoder.spec.num_features),
        class_names=["a", "b", "c"],
    )


def _trained_parts(network: AdaptedClassifier) -> list[torch.nn.Module]:
    return [part for part in (network.prompt, network.adapter, network.head) if part is not None]


def _images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(3))


def _perturb(network: AdaptedClassifier) -> AdaptedClassifier:
    with torch.no_grad():
        for parameter in (parameter for part in _trained_parts(network) for parameter in part.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return network


@battery
def test_logits_have_the_shape_and_dtype_of_the_contract(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    logits = _network(backbone, prompt, head, adapter)(_images())
    assert logits.shape == (2, NUM_CLASSES)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@battery
def test_the_head_gives_the_logits_to_the_last_bit_from_what_it_read_in_the_same_pass(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    network = _perturb(_network(backbone, prompt, head, adapter)).eval()
    alone = network(_images())
    tap = FeatureTap(network)
    tap.open()
    listened = network(_images())
    features = tap.take(2)
    tap.close()
    assert torch.equal(listened, alone)
    if not network.reads_tokens:
        assert torch.equal(network.head(features), alone)
    assert torch.equal(network.outputs(_images())[1], features)
    assert torch.equal(features, network.features(_images()))


@battery
def test_prompted_predictions_equal_the_plain_ones_at_initialisation(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    network = _network(backbone, prompt, head, adapter).eval()
    if network.reads_tokens:
        plain, _ = network.from_prompted(_images())
    else:
        plain = network.head(network.plain_features(_images()))
    same = torch.allclose(network(_images()), plain, atol=1e-6)
    assert same is (prompt.identity and (adapter.make is None or backbone.name in adapter.identity))


@battery
def test_gradients_reach_exactly_the_parts_that_train(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    network = _network(backbone, prompt, head, adapter).train()
    torch.nn.functional.cross_entropy(network(_images()), torch.tensor([0, 2])).backward()
    reached = {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    expected = {name for name, part in (("prompt", prompt), ("head", head)) if part.trainable}
    assert reached == expected | ({"adapter"} if adapter.make else set())


@battery
def test_a_step_leaves_the_frozen_weights_and_statistics_as_they_were(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    network = _network(backbone, prompt, head, adapter).train()
    before = network.backbone.content_sha256()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    torch.nn.functional.cross_entropy(network(_images(4)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert network.backbone.content_sha256() == before


@battery
def test_a_checkpoint_restores_the_predictions_and_holds_no_backbone(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase, tmp_path: Path
) -> None:
    trained = _perturb(_network(backbone, prompt, head, adapter)).eval()
    save_atomically(trained.state_dict(), tmp_path / "model.pt")
    loaded = _network(backbone, prompt, head, adapter).eval()
    loaded.load_state_dict(load_checkpoint(tmp_path / "model.pt"))
    assert torch.equal(loaded(_images()), trained(_images()))
    numbers = sum(value.numel() for key, value in trained.state_dict().items() if key != "_extra_state")
    own = sum(value.numel() for part in _trained_parts(trained) for value in part.state_dict().values())
    assert numbers == own


@battery
def test_the_same_seed_builds_the_same_network_and_predictions_repeat(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    one, two = (_network(backbone, prompt, head, adapter).eval() for _ in range(2))
    assert torch.equal(one(_images()), two(_images()))
    assert torch.equal(one(_images()), one(_images()))


@battery
def test_torchscript_predicts_the_same_for_any_batch_size(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    network = _perturb(_network(backbone, prompt, head, adapter)).eval()
    scripted = torch.jit.script(network)
    for count in (1, 3):
        torch.testing.assert_close(scripted(_images(count)), network(_images(count)), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@battery
def test_cuda_predicts_as_the_cpu_does(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, adapter: AdapterCase
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    network = _perturb(_network(backbone, prompt, head, adapter)).eval()
    expected = network(_images())
    torch.testing.assert_close(network.cuda()(_images().cuda()).cpu(), expected, atol=1e-3, rtol=1e-3)
