"""Several networks as one: the mean of calibrated probabilities, a state that knows its members, one graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from movl_monai.adapters import LoRA
from movl_monai.errors import CheckpointMismatchError, ConfigError
from movl_monai.evaluation import run_info
from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.export.graph import exportable
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier, EnsembleClassifier, decode_facts, trained_state_sha256
from movl_monai.prompts import PadPrompt
from tests.export.networks import perturbed
from tests.helpers import tiny_backbone, tiny_vit

SIZE = 64
NAMES = ["a", "b", "c"]


def _members(*, seed: int = 0) -> list[AdaptedClassifier]:
    """A CNN with a prompt, and a ViT with an adapter that can be merged."""
    cnn, vit = tiny_backbone(), tiny_vit(seed=seed)
    heads = [LinearHead(one.spec.num_features, 3, init="uniform") for one in (cnn, vit)]
    first = AdaptedClassifier(
        backbone=cnn, head=heads[0], prompt=PadPrompt(image_size=SIZE, width=4), class_names=NAMES
    )
    second = AdaptedClassifier(backbone=vit, head=heads[1], adapter=LoRA(vit, rank=2), class_names=NAMES)
    return [perturbed(first), perturbed(second)]


def _ensemble(**options: Any) -> EnsembleClassifier:
    return EnsembleClassifier(members=_members(**options), temperatures=[0.1, 0.5]).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_probabilities_are_the_mean_of_the_calibrated_ones_of_the_members(images: torch.Tensor) -> None:
    network = _ensemble()
    parts = [
        (member(images).double() / temperature).softmax(dim=1)
        for member, temperature in zip(_members(), (0.1, 0.5), strict=True)
    ]
    assert float((parts[0] - parts[1]).abs().max()) > 0.05
    logits = network(images)
    torch.testing.assert_close(logits.double().softmax(dim=1), (parts[0] + parts[1]) / 2, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits.exp(), logits.softmax(dim=1), rtol=0, atol=1e-6)


@torch.no_grad()
def test_features_are_those_of_all_members_and_are_heard_at_the_head(images: torch.Tensor) -> None:
    network = _ensemble()
    expected = torch.cat([member.features(images) for member in _members()], dim=1)
    assert expected.shape == (5, network.backbone.spec.num_features)
    tap = FeatureTap(network)
    tap.open()
    network(images)
    torch.testing.assert_close(tap.take(5), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_state_gives_the_network_again_and_holds_no_frozen_tensor(images: torch.Tensor) -> None:
    network = _ensemble()
    state = network.state_dict()
    trained = {f"members.{number}.{name}" for number in (0, 1) for name in _members()[number].state_dict()}
    assert set(state) == trained | {"_extra_state", "head.temperatures"}
    other = EnsembleClassifier(members=_members(seed=0)).eval()
    for parameter in other.head.parameters():
        parameter.zero_()
    assert not any(other.load_state_dict(state))
    torch.testing.assert_close(other(images), network(images), rtol=0, atol=0)
    assert trained_state_sha256(other) == trained_state_sha256(state)
    warmer = EnsembleClassifier(members=_members(), temperatures=[0.1, 0.6])
    assert trained_state_sha256(warmer) != trained_state_sha256(state)
    assert decode_facts(state["_extra_state"])["class_names"] == NAMES


def test_a_state_of_members_on_other_weights_is_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match="frozen weights"):
        _ensemble(seed=1).load_state_dict(_ensemble().state_dict())


@torch.no_grad()
def test_the_exported_graph_has_the_adapters_of_its_members_merged(images: torch.Tensor) -> None:
    network = _ensemble()
    graph: Any = exportable(network)
    assert [member.adapter for member in graph.network.members] == [None, None]
    scripted = torch.jit.script(graph)
    for given, own in zip(scripted(images), (network(images), network.features(images)), strict=True):
        torch.testing.assert_close(given, own, rtol=0, atol=1e-4)
    assert network.members[1].adapter is not None


def test_the_facts_name_what_each_member_has() -> None:
    network = _ensemble()
    facts = run_info(network=network)
    assert facts["prompt"] == "PadPrompt + none"
    assert facts["adapter"].startswith("none + LoRA(rank=2")
    assert facts["head"] == "LinearHead + LinearHead"
    assert facts["backbone"]["name"] == "test_efficientnet + test_vit"
    numbers = [run_info(network=member) for member in _members()]
    for name in ("trainable_parameters", "backbone_parameters"):
        assert facts[name] == sum(number[name] for number in numbers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"members": []}, "at least 2 members"),
        ({"temperatures": [1.0]}, "one temperature above 0 for each of its 2"),
        ({"temperatures": [1.0, 0.0]}, "above 0"),
        ({"class_names": ["b", "a", "c"]}, "same classes in the same order"),
    ],
)
def test_what_is_no_ensemble_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EnsembleClassifier(**{"members": _members(), **change})
