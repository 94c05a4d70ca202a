"""DVPT against its equations written as loops, its start, its groups, its size."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movl_monai.adapters import DVPT
from movl_monai.adapters.dvpt import block_groups
from movl_monai.backbones import Backbone, TimmBackbone
from movl_monai.errors import ConfigError
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier, save_atomically
from movl_monai.networks.adapted import AdaptedPath
from tests.adapters.reference import mask_appended, perturb
from tests.helpers import tiny_clip, tiny_swin, tiny_vit

vits = pytest.mark.parametrize("make", [tiny_vit, tiny_clip], ids=["vit", "clip"])


def _image(backbone: Backbone, count: int = 2) -> torch.Tensor:
    size = backbone.spec.image_size
    image = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    return backbone.normalize(image.to(backbone.mean))


def _gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def _squeeze(token: torch.Tensor, down: torch.Tensor) -> list[float]:
    return [_gelu(sum(float(t) * float(w) for t, w in zip(token, row, strict=True))) for row in down]


def _attend(query: torch.Tensor, keys: list[list[float]]) -> tuple[list[float], list[float]]:
    """Return the weights over the keys and their weighted sum."""
    size = len(keys[0])
    scores = [sum(float(q) * k for q, k in zip(query, key, strict=True)) / math.sqrt(len(query)) for key in keys]
    powers = [math.exp(score - max(scores)) for score in scores]
    weights = [power / sum(powers) for power in powers]
    return weights, [sum(w * key[i] for w, key in zip(weights, keys, strict=True)) for i in range(size)]


def _raise(result: list[float], up: torch.Tensor) -> torch.Tensor:
    rows = [sum(float(w) * r for w, r in zip(row, result, strict=True)) for row in up]
    return torch.tensor(rows, dtype=torch.float64)


def _reference_vit(backbone: Backbone, adapter: DVPT, image: torch.Tensor) -> torch.Tensor:
    """The equations of one image after the other, token by token; the frozen blocks are black boxes."""
    path, count, features = backbone.token_path(), adapter.num_prompts, []
    for tokens in path.embed(image):
        sequence = [*tokens, *adapter.start]
        for number, block in enumerate(path.blocks):
            module = adapter.shared[number // adapter.share_every]
            squeezed = [_squeeze(token, module.down) for token in sequence]
            own = len(sequence) - count
            for index in range(count):
                _, result = _attend(module.queries[index], squeezed[:own])
                sequence[own + index] = sequence[own + index] + _raise(result, module.up)
            sequence = list(block(torch.stack(sequence)[None])[0])
            branch = [_raise(z, module.branch_up) for z in squeezed]
            sequence = [token + added for token, added in zip(sequence, branch, strict=True)]
        read = [path.pool(torch.stack(sequence[:-count])[None])[0]]
        read += [path.read(token[None, None])[0, 0] for token in sequence[-count:]]
        features.append(torch.stack(read).mean(dim=0))
    return torch.stack(features)


def _reference_swin(backbone: Backbone, adapter: DVPT, image: torch.Tensor) -> torch.Tensor:
    path, features = backbone.token_path(), []
    module_of = {number: m for group, m in zip(adapter.groups, adapter.shared, strict=True) for number in group}
    for tokens in path.embed(image).split(1):
        for number, block in enumerate(path.blocks):
            module, tokens = module_of[number], path.entries[number](tokens)
            flat = tokens.flatten(0, 2)
            squeezed = [_squeeze(token, module.down) for token in flat]
            found = [_attend(query, squeezed) for query in module.queries]
            returned = []
            for place in range(len(flat)):
                back = [sum(weights[place] * result[i] for weights, result in found) for i in range(len(squeezed[0]))]
                returned.append(flat[place] + _raise(back, module.up))
            branch = torch.stack([_raise(z, module.branch_up) for z in squeezed])
            tokens = block(torch.stack(returned).reshape(tokens.shape)) + branch.reshape(tokens.shape)
        features.append(path.pool(tokens)[0])
    return torch.stack(features)


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip, tiny_swin])
def test_features_follow_the_equations(make: Callable[[], Backbone]) -> None:
    backbone = make().double()
    adapter = DVPT(backbone, num_prompts=3, bottleneck=4, share_every=2).double()
    perturb(adapter)
    image, reference = _image(backbone), _reference_swin if make is tiny_swin else _reference_vit
    with torch.no_grad():
        ours, expected = AdaptedPath(backbone, adapter)(image), reference(backbone, adapter, image)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@vits
@pytest.mark.parametrize("as_released", [False, True])
def test_with_its_tokens_masked_from_the_attention_a_vit_starts_as_the_plain_one(
    make: Callable[[], Backbone], as_released: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make()
    image = _image(backbone)
    with torch.no_grad():
        plain = backbone.encoder(image)
        adapter = DVPT(backbone, num_prompts=3, readout="backbone", as_released=as_released)
        unmasked = AdaptedPath(backbone, adapter)(image)
        mask_appended(monkeypatch, 3)
        masked = AdaptedPath(backbone, adapter)(image)
    torch.testing.assert_close(masked, plain, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(unmasked, plain, atol=1e-4), "appended tokens take a share of the attention"


@vits
def test_what_the_appended_tokens_change_is_the_attention_and_the_mean(
    make: Callable[[], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them masked, the features are (m * mean of the appended tokens + plain feature) / (m + 1)."""
    backbone = make()
    image, adapter = _image(backbone), DVPT(backbone, num_prompts=3)
    plain = backbone.encoder(image)
    mask_appended(monkeypatch, 3)
    with torch.no_grad():
        path = AdaptedPath(backbone, adapter)
        tokens = path.path.embed(image)
        for block, hook in zip(path.path.blocks, path.hooks, strict=True):
            tokens, kept = hook.before(tokens)
            tokens = hook.after(block(tokens), kept)
        appended = path.path.read(tokens[:, -3:]).sum(dim=1)
        torch.testing.assert_close(path(image), (appended + plain) / 4, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"as_released": True}, {"dynamic": False}], ids=str)
def test_a_hierarchy_starts_as_the_plain_one(options: dict[str, bool]) -> None:
    backbone = tiny_swin()
    adapter, image = DVPT(backbone, num_prompts=3, **options), _image(backbone)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(AdaptedPath(backbone, adapter)(image), backbone.encoder(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("option", ["as_released", "dynamic"])
def test_without_its_dynamic_part_a_vit_has_no_parameters_for_it_and_computes_what_closed_queries_give(
    option: str,
) -> None:
    backbone = tiny_vit()
    whole = DVPT(backbone, num_prompts=3)
    static = DVPT(backbone, num_prompts=3, **{option: option == "as_released"})  # type: ignore[arg-type]
    names = {name.rpartition(".")[2] for name, _ in static.named_parameters()}
    assert names == {"start", "down", "branch_up"}
    perturb(whole)
    static.load_state_dict({name: whole.state_dict()[name] for name in static.state_dict()})
    image = _image(backbone)
    with torch.no_grad():
        dynamic = AdaptedPath(backbone, whole)(image)
        for module in whole.shared:
            module.up.zero_()  # type: ignore[operator, union-attr]
        closed, without = AdaptedPath(backbone, whole)(image), AdaptedPath(backbone, static)(image)
    torch.testing.assert_close(without, closed, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(dynamic, closed, atol=1e-3)


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin], ids=["vit", "swin"])
def test_all_of_it_trains_from_the_second_step_on(make: Callable[[], Backbone]) -> None:
    """Zero matrices block the gradient of the layers before them in the first step, and in that step alone."""
    backbone = make()
    adapter, image = DVPT(backbone, num_prompts=3), _image(backbone)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    path = AdaptedPath(backbone, adapter)
    weights = torch.randn(path(image).shape, generator=torch.Generator().manual_seed(2))
    for _ in range(2):
        optimizer.zero_grad()
        (path(image) * weights).sum().backward()
        optimizer.step()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in adapter.parameters())  # type: ignore[union-attr]


def test_a_state_with_gates_is_converted_and_computes_the_same() -> None:
    backbone = tiny_vit()
    trained, adapter = (DVPT(backbone, num_prompts=3) for _ in range(2))
    perturb(trained)
    state = dict(trained.state_dict())
    for number in range(len(trained.shared)):
        for matrix, gate, value in (("up", "gate", 0.05), ("branch_up", "branch_gate", -0.5)):
            state[f"shared.{number}.{gate}"] = torch.tensor(value)
            state[f"shared.{number}.{matrix}"] = state[f"shared.{number}.{matrix}"] / value
    adapter.load_state_dict(state)
    image = _image(backbone)
    with torch.no_grad():
        torch.testing.assert_close(AdaptedPath(backbone, adapter)(image), AdaptedPath(backbone, trained)(image))


def test_the_released_hierarchy_changes_the_first_tokens_only_before_the_block() -> None:
    adapter = DVPT(tiny_swin(), num_prompts=3, as_released=True)
    perturb(adapter)
    tokens = torch.randn(2, 8, 8, 16)
    before, _ = adapter.hooks()[0].before(tokens)
    changed = (before != tokens).flatten(1, 2).any(dim=2)
    assert changed[:, :3].all()
    assert not changed[:, 3:].any()


def test_prompts_differ_between_images() -> None:
    backbone = tiny_vit()
    adapter = DVPT(backbone, num_prompts=2, bottleneck=4)
    perturb(adapter)
    hook = adapter.hooks()[1]
    with torch.no_grad():
        tokens = torch.cat([torch.randn(2, 17, 64), torch.zeros(2, 2, 64)], dim=1)
        dynamic = hook.before(tokens)[0][:, -2:]
    assert not torch.allclose(dynamic[0], dynamic[1])


def test_blocks_of_a_group_share_one_module_and_the_last_group_is_shorter() -> None:
    adapter = DVPT(tiny_vit(), num_prompts=2, share_every=4)
    assert adapter.groups == [[0, 1, 2, 3], [4, 5]]
    hooks = adapter.hooks()
    assert hooks[0].module is hooks[3].module
    assert hooks[4].module is not hooks[3].module
    assert len(DVPT(tiny_vit(), num_prompts=2, share_every=1).shared) == 6


def test_a_group_never_crosses_a_stage() -> None:
    assert DVPT(tiny_swin(), num_prompts=2, share_every=4).groups == [[0, 1], [2, 3, 4]]
    assert block_groups([1, 2, 4], [0, 0, 0, 1, 1], 2) == [[1, 2], [4]]


def test_in_chosen_blocks_the_tokens_start_at_the_first_of_them() -> None:
    backbone = tiny_vit()
    adapter = DVPT(backbone, num_prompts=2, blocks=[4, 5])
    tokens = torch.randn(1, 17, 64)
    lengths = [hook.before(tokens)[0].shape[1] for hook in adapter.hooks()]
    assert lengths == [17, 17, 17, 17, 19, 17]
    assert adapter.first_block == 4
    assert "blocks=[4, 5]" in adapter.settings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": 17}, "num_prompts must be between 1 and 16, the number of image tokens .* got 17"),
        ({"num_prompts": 0}, "num_prompts must be between 1 and 16"),
        ({"bottleneck": 0}, "bottleneck must be at least 1, got 0"),
        ({"bottleneck": -2}, "bottleneck must be at least 1, got -2"),
        ({"share_every": 0}, "share_every must be at least 1"),
        ({"readout": "mean"}, "readout must be 'prompts' or 'backbone', got 'mean'"),
        ({"blocks": [6]}, "numbers from 0 to 5 .*got \\[6\\]"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DVPT(tiny_vit(), **options)  # type: ignore[arg-type]


def test_a_vit_that_pools_by_attention_needs_the_backbones_readout() -> None:
    backbone = tiny_vit(name="test_vit3")
    with pytest.raises(ConfigError, match="set readout to 'backbone'"):
        DVPT(backbone, num_prompts=2)
    assert DVPT(backbone, num_prompts=2, readout="backbone").num_appended == 2


def test_on_a_vit_b_16_it_has_half_a_percent_of_the_parameters_and_one_percent_of_the_bytes(tmp_path: Path) -> None:
    backbone = TimmBackbone("vit_base_patch16_224")
    adapter = DVPT(backbone, num_prompts=10, bottleneck=20, share_every=3)
    network = AdaptedClassifier(backbone=backbone, adapter=adapter, head=LinearHead(768, 5))
    assert len(adapter.shared) == 4
    assert adapter.share_of_backbone() <= 0.5
    assert 100 * network.trainable_parameters() / adapter.backbone_parameters <= 0.5
    save_atomically(network.state_dict(), tmp_path / "model.pt")
    bytes_of_backbone = sum(value.nbytes for value in backbone.state_dict().values())
    assert (tmp_path / "model.pt").stat().st_size <= 0.01 * bytes_of_backbone
