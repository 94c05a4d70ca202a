"""What every method must pass: the rows are in `cases.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movl_monai.networks import AdaptedClassifier, load_checkpoint, save_atomically
from tests.cases import BACKBONES, HEADS, NUM_CLASSES, PROMPTS, BackboneCase, HeadCase, PromptCase
from tests.helpers import IMAGE_SIZE

# every prompt on one backbone, every backbone with one prompt, every head on one backbone
ROWS = [
    *(pytest.param(BACKBONES[2], prompt, HEADS[0], id=f"prompt-{prompt.name}") for prompt in PROMPTS),
    *(pytest.param(backbone, PROMPTS[1], HEADS[0], id=f"backbone-{backbone.name}") for backbone in BACKBONES),
    *(pytest.param(BACKBONES[2], PROMPTS[1], head, id=f"head-{head.name}") for head in HEADS),
]
battery = pytest.mark.parametrize(("backbone", "prompt", "head"), ROWS)


def _network(backbone: BackboneCase, prompt: PromptCase, head: HeadCase, **options: object) -> AdaptedClassifier:
    encoder = backbone.make(**options)
    return AdaptedClassifier(
        backbone=encoder, prompt=prompt.make(), head=head.make(encoder.spec.num_features), class_names=["a", "b", "c"]
    )


def _images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(3))


def _perturb(network: AdaptedClassifier) -> AdaptedClassifier:
    with torch.no_grad():
        for parameter in (*network.prompt.parameters(), *network.head.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return network


@battery
def test_logits_have_the_shape_and_dtype_of_the_contract(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase
) -> None:
    logits = _network(backbone, prompt, head)(_images())
    assert logits.shape == (2, NUM_CLASSES)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@battery
def test_prompted_predictions_equal_the_plain_ones_at_initialisation(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase
) -> None:
    network = _network(backbone, prompt, head).eval()
    same = torch.allclose(network(_images()), network.head(network.plain_features(_images())), atol=1e-6)
    assert same is prompt.identity


@battery
def test_gradients_reach_exactly_the_prompt_and_the_head(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase
) -> None:
    network = _network(backbone, prompt, head).train()
    torch.nn.functional.cross_entropy(network(_images()), torch.tensor([0, 2])).backward()
    reached = {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert reached == {name for name, part in (("prompt", prompt), ("head", head)) if part.trainable}


@battery
def test_a_step_leaves_the_frozen_weights_and_statistics_as_they_were(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase
) -> None:
    network = _network(backbone, prompt, head).train()
    before = network.backbone.content_sha256()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    torch.nn.functional.cross_entropy(network(_images(4)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert network.backbone.content_sha256() == before


@battery
def test_a_checkpoint_restores_the_predictions_and_holds_no_backbone(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase, tmp_path: Path
) -> None:
    trained = _perturb(_network(backbone, prompt, head)).eval()
    save_atomically(trained.state_dict(), tmp_path / "model.pt")
    loaded = _network(backbone, prompt, head).eval()
    loaded.load_state_dict(load_checkpoint(tmp_path / "model.pt"))
    assert torch.equal(loaded(_images()), trained(_images()))
    numbers = sum(value.numel() for key, value in trained.state_dict().items() if key != "_extra_state")
    own = sum(value.numel() for part in (trained.prompt, trained.head) for value in part.state_dict().values())
    assert numbers == own


@battery
def test_the_same_seed_builds_the_same_network_and_predictions_repeat(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase
) -> None:
    one, two = (_network(backbone, prompt, head).eval() for _ in range(2))
    assert torch.equal(one(_images()), two(_images()))
    assert torch.equal(one(_images()), one(_images()))


@battery
def test_torchscript_predicts_the_same_for_any_batch_size(
    backbone: BackboneCase, prompt: PromptCase, head: HeadCase
) -> None:
    network = _perturb(_network(backbone, prompt, head)).eval()
    scripted = torch.jit.script(network)
    for count in (1, 3):
        torch.testing.assert_close(scripted(_images(count)), network(_images(count)), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@battery
def test_cuda_predicts_as_the_cpu_does(backbone: BackboneCase, prompt: PromptCase, head: HeadCase) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    network = _perturb(_network(backbone, prompt, head)).eval()
    expected = network(_images())
    torch.testing.assert_close(network.cuda()(_images().cuda()).cpu(), expected, atol=1e-3, rtol=1e-3)
