"""Grad-CAM and attention rollout against their written-out formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from torch import nn

from movl_monai.adapters import DVPT, VPT, Adapter, LoRA
from movl_monai.backbones import Backbone, ResNetBackbone, TimmBackbone, TokenPath
from movl_monai.errors import ConfigError
from movl_monai.evaluation.explain.maps import attention_rollout, attention_weights, grad_cam, look, roll_out
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from tests.adapters.reference import perturb
from tests.helpers import tiny_backbone, tiny_clip, tiny_swin, tiny_vit

SIZE = 96


def _classifier(backbone: Backbone, adapter: Adapter | None = None, *, width: int = 4) -> AdaptedClassifier:
    if adapter is not None:
        perturb(adapter)
    prompt = PadPrompt(image_size=backbone.spec.image_size, width=width)
    perturb(prompt)
    head = LinearHead(backbone.spec.num_features, 3, init="uniform")
    return AdaptedClassifier(backbone=backbone, adapter=adapter, prompt=prompt, head=head).eval()


def _images(network: AdaptedClassifier, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, network.backbone.spec.image_size, network.backbone.spec.image_size)


@pytest.mark.parametrize("frozen", [True, False])
def test_grad_cam_behind_pooling_and_a_linear_head_is_the_weighted_map_of_the_class(frozen: bool) -> None:
    network = _classifier(TimmBackbone("test_efficientnet", image_size=SIZE, frozen=frozen))
    image, classes = _images(network), torch.tensor([2, 0])
    with torch.no_grad():
        maps = network.backbone.encoder.forward_features(network.backbone.normalize(network.prompt(image)))
        expected = torch.einsum("bk,bkhw->bhw", network.head.weight[classes], maps).clamp(min=0) / maps[0, 0].numel()
    assert maps.shape[2] > 1
    torch.testing.assert_close(grad_cam(network, image, classes), expected, atol=1e-6, rtol=1e-4)


def test_grad_cam_is_that_of_monai() -> None:
    network = _classifier(ResNetBackbone("resnet18", image_size=SIZE, frozen=False, batchnorm_eval=True))
    image = _images(network, 1)
    theirs = GradCAM(nn_module=copy.deepcopy(network), target_layers="backbone.encoder.layer4")
    for number in range(3):
        expected = theirs.compute_map(image, class_idx=number)[:, 0]
        torch.testing.assert_close(grad_cam(network, image, torch.tensor([number])), expected, atol=1e-6, rtol=1e-4)


def test_grad_cam_of_a_swin_reads_its_map_with_the_channels_last() -> None:
    backbone = tiny_swin()
    network = _classifier(backbone, LoRA(backbone, rank=2))
    image, classes = _images(network), torch.tensor([1, 2])
    with torch.no_grad():
        tokens = network.adapted.path.embed(network.backbone.normalize(network.prompt(image)))
        for entry, block in zip(network.adapted.path.entries, network.adapted.path.blocks, strict=True):
            tokens = block(entry(tokens))
        maps = network.adapted.path.encoder.norm(tokens)
        expected = torch.einsum("bk,bhwk->bhw", network.head.weight[classes], maps).clamp(min=0) / (
            maps.shape[1] * maps.shape[2]
        )
    method, found = look(network, image, classes)
    assert method == "Grad-CAM"
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_a_network_whose_maps_have_one_pixel_or_end_in_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than one pixel"):
        grad_cam(_classifier(tiny_vit()), torch.rand(1, 3, 64, 64), torch.tensor([0]))
    flat = _classifier(tiny_backbone())
    flat.backbone.encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(flat.backbone.spec.num_features))
    with pytest.raises(ConfigError, match="more than one pixel"):
        grad_cam(flat, torch.rand(1, 3, 32, 32), torch.tensor([0]))


def test_attention_weights_give_the_output_of_the_layer() -> None:
    vit, clip = tiny_vit().token_path(), tiny_clip().token_path()
    for layer, width in ((vit.blocks[0].attn, 64), (clip.blocks[0].attn, 32)):
        tokens = torch.randn(2, 7, width)
        weights = attention_weights(layer, tokens)
        if isinstance(layer, nn.MultiheadAttention):
            expected, theirs = layer(tokens, tokens, tokens, average_attn_weights=False)
            torch.testing.assert_close(weights, theirs)
            value = nn.functional.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)[..., 2 * width :]
            ours = layer.out_proj(_mixed(weights, value))
        else:
            expected, ours = layer(tokens), layer.proj(_mixed(weights, layer.qkv(tokens)[..., 2 * width :]))
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def _mixed(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    split = value.unflatten(2, (weights.shape[1], -1)).transpose(1, 2)
    return (weights @ split).transpose(1, 2).flatten(2)


def _rolled_in_loops(attentions: list[np.ndarray], own: int, fresh: list[bool]) -> np.ndarray:
    """Follow every first token through every block, one number at a time."""
    state = [[float(row == column) for column in range(own)] for row in range(own)]
    for weights, is_fresh in zip(attentions, fresh, strict=True):
        count = len(weights)
        before = [
            list(state[row]) if row < own or (row < len(state) and not is_fresh) else [0.0] * own
            for row in range(count)
        ]
        state = [[0.0] * own for _ in range(count)]
        for row in range(count):
            for column in range(own):
                passed = sum(weights[row][other] * before[other][column] for other in range(count))
                state[row][column] = 0.5 * passed + 0.5 * before[row][column]
    return np.asarray(state)


@pytest.mark.parametrize("fresh", [[False, False, False], [False, True, True]])
def test_rollout_equals_loops_over_tokens(fresh: list[bool]) -> None:
    attentions = [torch.randn(2, count, count).double().softmax(dim=2) for count in (5, 8, 8)]
    rolled = roll_out(attentions, num_tokens=5, fresh=fresh)
    for image in range(2):
        expected = _rolled_in_loops([weights[image].numpy() for weights in attentions], 5, fresh)
        np.testing.assert_allclose(rolled[image].numpy(), expected, rtol=1e-12)


def _attention(path: TokenPath, run: Callable[[], object]) -> list[np.ndarray]:
    """Return the attention of every block, the mean over heads (N, N), for the single image that ``run`` computes."""
    seen: list[np.ndarray] = []

    def keep(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(attention_weights(layer, args[0])[0].mean(dim=0).numpy())

    handles = [block.attn.register_forward_pre_hook(keep) for block in path.blocks]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


def _adapters(backbone: Backbone) -> list[tuple[Adapter | None, bool, bool]]:
    """Adapters of each kind, whether their tokens are new in every block, and whether the tokens are read."""
    return [
        (None, False, False),
        (LoRA(backbone, rank=2), False, False),
        (VPT(backbone, num_prompts=3, deep=True), True, False),
        (VPT(backbone, num_prompts=3, deep=False, blocks=[2]), False, False),
        (DVPT(backbone, num_prompts=3, bottleneck=4), False, True),
    ]


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip])
def test_rollout_of_a_network_follows_its_own_attention_to_what_is_read(make: type[Backbone]) -> None:
    backbone = make()
    for adapter, fresh, averages in _adapters(backbone):
        network = _classifier(backbone, adapter)
        image = _images(network, 1)
        path = backbone.token_path() if network.adapted is None else network.adapted.path
        run = path if network.adapted is None else network.adapted
        weights = _attention(path, lambda: run(backbone.normalize(network.prompt(image))))  # noqa: B023
        own = path.layout.num_prefix + 16
        state = _rolled_in_loops(weights, own, [False, *[fresh] * (len(weights) - 1)])
        read = [0, *(range(own, len(state)) if averages else ())]
        expected = state[read][:, 1:].mean(axis=0).reshape(4, 4)
        found = attention_rollout(network, image)
        np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-4, atol=1e-6)
        assert found.sum() < 1 + 1e-6


def test_rollout_reads_all_image_tokens_where_the_network_averages_them() -> None:
    backbone = TimmBackbone("test_vit", image_size=64, model_options={"global_pool": "avg"})
    network = _classifier(backbone)
    image = _images(network, 1)
    path = backbone.token_path()
    weights = _attention(path, lambda: path(backbone.normalize(network.prompt(image))))
    state = _rolled_in_loops(weights, 17, [False] * 6)
    expected = state[1:, 1:].mean(axis=0).reshape(4, 4)
    np.testing.assert_allclose(attention_rollout(network, image)[0].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_attention_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not know the attention Identity"):
        attention_weights(nn.Identity(), torch.rand(1, 2, 4))


@pytest.mark.parametrize("kind", ["cnn", "vit", "adapted vit"])
def test_looking_leaves_no_hook_no_gradient_and_no_changed_mode(kind: str) -> None:
    backbone = TimmBackbone("test_efficientnet", image_size=SIZE) if kind == "cnn" else tiny_vit()
    network = _classifier(backbone, LoRA(backbone, rank=2) if kind == "adapted vit" else None)
    network.train()
    network.head.eval()
    image, classes = _images(network), torch.tensor([0, 1])
    network(image).sum().backward()
    modes = [module.training for module in network.modules()]
    gradients = {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}
    wanted = [value.requires_grad for value in network.parameters()]
    with torch.inference_mode():
        look(network, image, classes)
    assert [module.training for module in network.modules()] == modes
    assert [value.requires_grad for value in network.parameters()] == wanted
    after = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    assert after.keys() == gradients.keys()
    assert all(torch.equal(after[name], value) for name, value in gradients.items())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, name) for module in network.modules() for name in hooks)
