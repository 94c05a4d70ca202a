"""A classifier with an adapter: its state, its plain branch, its exports, and training beside the prompt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from movl_monai.adapters import DVPT, VPT, Adapter, AdaptFormer, LoRA
from movl_monai.backbones import Backbone
from movl_monai.engines import FeatureSet, Stage, StagedTrainer, optimizer_groups
from movl_monai.errors import CheckpointMismatchError, ConfigError
from movl_monai.evaluation import run_info
from movl_monai.heads import LinearHead
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier
from movl_monai.networks.adapted import AdaptedPath, ReadTokensMLP
from movl_monai.prompts import PadPrompt
from tests.adapters.reference import perturb
from tests.helpers import MemoryDataset, memory_dataset, tiny_clip, tiny_swin, tiny_vit


def _network(backbone: Backbone, adapter: Adapter | None, *, prompt: bool = True) -> AdaptedClassifier:
    return AdaptedClassifier(
        backbone=backbone,
        adapter=adapter,
        prompt=PadPrompt(image_size=backbone.spec.image_size, width=4) if prompt else None,
        head=LinearHead(backbone.spec.num_features, 2, init="uniform"),
    )


def _trainer(network: AdaptedClassifier, data: MemoryDataset, features: FeatureSet, **options: object) -> StagedTrainer:
    return StagedTrainer(
        device="cpu",
        network=network,
        stages=[Stage(epochs=1, lr={"prompt": 1e-2, "adapter": 1e-2, "head": 1e-2})],
        max_epochs=1,
        optimizer=torch.optim.SGD(optimizer_groups(network), lr=1.0),  # Adam would magnify the rounding of gradients
        loss_function=MoVLLoss(weight=1.0),
        train_data_loader=torch.utils.data.DataLoader(data, batch_size=6),
        features=features,
        **options,  # type: ignore[arg-type]
    )


def test_the_state_holds_prompt_adapter_and_head_and_no_tensor_twice() -> None:
    backbone = tiny_vit()
    network = _network(backbone, LoRA(backbone, rank=2))
    state = network.state_dict()
    assert {key.split(".")[0] for key in state} == {"prompt", "adapter", "head", "_extra_state"}
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained <= set(state)
    assert not [name for name, _ in network.named_parameters() if name.startswith("adapted.")]


def test_a_network_without_an_adapter_has_the_state_that_it_always_had() -> None:
    facts = _network(tiny_vit(), None).facts()
    assert facts["parts"] == {"prompt": "PadPrompt", "head": "LinearHead"}


def test_a_checkpoint_of_another_adapter_or_of_other_settings_is_refused() -> None:
    backbone = tiny_vit()
    state = _network(backbone, LoRA(backbone, rank=2, alpha=2)).state_dict()
    with pytest.raises(CheckpointMismatchError, match=r"scale=1\.0.* this network has .*scale=2\.0"):
        _network(backbone, LoRA(backbone, rank=2, alpha=4)).load_state_dict(state)
    with pytest.raises(CheckpointMismatchError, match="'adapter': 'LoRA"):
        _network(backbone, None).load_state_dict(state)
    with pytest.raises(CheckpointMismatchError, match="rank=2, .* this network has .*rank=3"):
        _network(backbone, LoRA(backbone, rank=3)).load_state_dict(state)


def test_a_missing_tensor_of_the_adapter_is_still_an_error() -> None:
    backbone = tiny_vit()
    state = _network(backbone, VPT(backbone, num_prompts=2)).state_dict()
    del state["adapter.prompts.3"]
    with pytest.raises(RuntimeError, match=r"adapter\.prompts\.3"):
        _network(backbone, VPT(backbone, num_prompts=2)).load_state_dict(state)


def test_a_copy_has_an_adapter_of_its_own() -> None:
    backbone, image = tiny_vit(), torch.rand(2, 3, 64, 64)
    network = _network(backbone, AdaptFormer(backbone, bottleneck=2)).eval()
    twin = copy.deepcopy(network)
    before = network(image)
    perturb(twin.adapter)
    assert torch.equal(network(image), before)
    assert not torch.allclose(twin(image), before, atol=1e-4)


def test_the_plain_branch_is_the_backbone_without_the_adapter() -> None:
    backbone, image = tiny_vit(), torch.rand(2, 3, 64, 64)
    network = _network(backbone, DVPT(backbone, num_prompts=2))
    perturb(network.adapter)
    perturb(network.prompt)
    assert torch.equal(network.plain_features(image), backbone(image))
    assert not torch.allclose(network.features(image), backbone(image), atol=1e-3)


def test_cached_plain_features_train_as_computed_ones_do() -> None:
    """One forward pass with the cache, two without: the same loss and the same steps, with an adapter too."""
    data, states = memory_dataset(12, size=64), []
    for cached in (True, False):
        backbone = tiny_vit()
        network = _network(backbone, DVPT(backbone, num_prompts=2, bottleneck=4))
        _trainer(network, data, FeatureSet(data, backbone, progress=False), cached_plain=cached).run()
        states.append(network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name].float(), value.float(), atol=1e-4, rtol=1e-3)


def test_an_epoch_changes_the_adapter_and_leaves_the_backbone() -> None:
    data, backbone = memory_dataset(12, size=64), tiny_vit()
    network = _network(backbone, LoRA(backbone, rank=2))
    before = {name: value.clone() for name, value in network.named_parameters()}
    sha = backbone.content_sha256()
    _trainer(network, data, FeatureSet(data, backbone, progress=False)).run()
    changed = {name.split(".")[0] for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"prompt", "adapter", "head"}
    assert backbone.content_sha256() == sha


def test_a_stage_can_fix_the_adapter() -> None:
    backbone = tiny_vit()
    network = _network(backbone, LoRA(backbone, rank=2), prompt=False)
    assert [group["name"] for group in optimizer_groups(network)] == ["adapter", "head"]


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin, tiny_clip], ids=["vit", "swin", "clip"])
def test_torch_export_predicts_the_same(make: object, tmp_path: Path) -> None:
    backbone = make()  # type: ignore[operator]
    network = _network(backbone, DVPT(backbone, num_prompts=2, bottleneck=4), prompt=False).eval()
    perturb(network.adapter)
    image = torch.rand(2, 3, backbone.spec.image_size, backbone.spec.image_size)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (tiny_vit, 1 + 3),
        (tiny_clip, 1 + 3),
        (lambda: tiny_vit(name="deit_tiny_distilled_patch16_224"), 2 + 3),
        (lambda: tiny_vit(name="test_vit2"), 17 + 3),  # its features are the mean over all tokens
    ],
    ids=["vit", "clip", "distilled", "mean"],
)
def test_the_last_mlp_runs_on_the_tokens_that_are_read_and_the_features_are_the_same(
    make: Callable[[], Backbone], read: int
) -> None:
    backbone = make()
    adapter = DVPT(backbone, num_prompts=3)
    perturb(adapter)
    adapted, whole = AdaptedPath(backbone, adapter), AdaptedPath(backbone, adapter)
    last: Any = whole.path.blocks[-1]
    if isinstance(last.mlp, ReadTokensMLP):
        last.mlp = last.mlp.mlp
    counts: list[int] = []
    part: Any = adapted.path.blocks[-1].mlp
    layer = next(module for module in part.modules() if isinstance(module, torch.nn.Linear))
    layer.register_forward_hook(lambda _, inputs, __: counts.append(inputs[0].shape[1]))
    image = torch.rand(2, 3, backbone.spec.image_size, backbone.spec.image_size)
    torch.testing.assert_close(adapted(image), whole(image), atol=1e-6, rtol=1e-5)
    assert counts == [read]


def test_drop_path_of_the_backbone_never_acts_in_the_adapted_way() -> None:
    backbone, image = tiny_swin(), torch.rand(2, 3, 32, 32)
    network = _network(backbone, LoRA(backbone, rank=2), prompt=False).train()
    assert torch.equal(network(image), network(image))
    assert not any(module.training for module in network.adapted.modules())


def test_an_adapter_for_a_backbone_that_trains_is_refused() -> None:
    with pytest.raises(ConfigError, match="frozen"):
        _network(tiny_vit(frozen=False), LoRA(tiny_vit()))


def test_the_facts_of_a_run_have_the_adapter_and_its_share() -> None:
    backbone = tiny_vit()
    network = _network(backbone, LoRA(backbone, rank=2))
    info = run_info(network=network)
    assert info["adapter"].startswith("LoRA(rank=2")
    assert info["adapter_percent"] == pytest.approx(100 * 3072 / info["backbone_parameters"])
    assert info["trainable_parameters"] == network.trainable_parameters()
    assert info["trainable_percent"] > info["adapter_percent"]


def test_the_log_says_the_number_of_parameters_and_the_percentage(caplog: pytest.LogCaptureFixture) -> None:
    backbone = tiny_vit()
    with caplog.at_level("INFO"):
        _network(backbone, LoRA(backbone, rank=2))
    assert "3072 trainable parameters, " in caplog.text
    assert "% of test_vit" in caplog.text


@pytest.mark.parametrize("make", [tiny_vit, tiny_clip], ids=["vit", "clip"])
@pytest.mark.parametrize(
    "adapter",
    [
        lambda b: VPT(b, num_prompts=2),
        lambda b: DVPT(b, num_prompts=3, bottleneck=4, blocks=[2, 3]),
        lambda b: LoRA(b, rank=2, blocks=[2, 3]),
    ],
    ids=["vpt", "dvpt", "lora"],
)
def test_layers_are_read_with_the_adapter_in_place_and_without_appended_tokens(
    adapter: Callable[[Backbone], Adapter], make: Callable[..., Backbone]
) -> None:
    backbone = make(layers="all")
    network = _network(backbone, adapter(backbone), prompt=False)
    perturb(network.adapter, scale=0.1)
    path, size = make().token_path(), backbone.spec.image_size  # of the backbone without the option
    network.adapter.attach(path)
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    tokens, parts = path.embed(backbone.normalize(image)), []
    own = tokens.shape[1]
    for block, hook in zip(path.blocks, network.adapter.hooks(), strict=True):
        tokens, kept = hook.before(tokens)
        tokens = hook.after(block(tokens), kept)
        parts += [tokens[:, 0], tokens[:, 1:own].mean(dim=1)]
    assert tokens.shape[1] == own + network.adapter.num_appended
    expected = torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts], dim=1)
    features, plain = network.features(image), network.plain_features(image)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    first = 2 * backbone.token_path().layout.widths[0] * network.adapter.first_block
    torch.testing.assert_close(features[:, :first], plain[:, :first])
    assert (features[:, first:] - plain[:, first:]).abs().max() > 1e-3


def test_an_adapter_behind_the_last_layer_that_is_read_is_refused() -> None:
    backbone = tiny_vit(layers=[0, 1])
    with pytest.raises(ConfigError, match=r"starts in block 2, and no layer from there on is read \(layers=\[0, 1\]\)"):
        _network(backbone, LoRA(backbone, blocks=[2, 3]))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_checkpoint_of_other_layers_is_refused(frozen: bool) -> None:
    def network(layers: Any) -> AdaptedClassifier:
        return _network(tiny_vit(layers=layers, frozen=frozen), None)

    state = network([0, 1]).state_dict()
    network([1, 0]).load_state_dict(state)
    for layers in ([2, 3], "last"):  # the first has as many features
        with pytest.raises(CheckpointMismatchError, match=r"reads the layers \[0, 1\] .* Set layers to \[0, 1\]"):
            network(layers).load_state_dict(state)
    assert "layers" not in network("last").facts()["backbone"]
    assert not [key for key in state if "reader" in key]
