"""Backbones and blocks that may host an adapter, and attaching, which leaves the backbone unchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from movl_monai.adapters import DVPT, SSF, VPT, Adapter, AdaptFormer, BitFit, LoRA
from movl_monai.backbones import Backbone, CLIPBackbone, ResNetBackbone, prepare_frozen
from movl_monai.errors import ConfigError
from movl_monai.networks.adapted import AdaptedPath
from tests.adapters.reference import perturb
from tests.backbones.test_clip_backbone import RN
from tests.helpers import tiny_backbone, tiny_swin, tiny_vit

KINDS: list[Callable[[Backbone], Adapter]] = [DVPT, VPT, AdaptFormer, LoRA, SSF, BitFit]
all_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@all_kinds
@pytest.mark.parametrize(
    "make",
    [lambda: ResNetBackbone("resnet18", image_size=64), tiny_backbone, lambda: CLIPBackbone("tiny", config=RN)],
    ids=["resnet", "efficientnet", "clip_rn"],
)
def test_a_cnn_refuses_every_adapter_and_says_what_it_hosts(
    kind: Callable[[Backbone], Adapter], make: Callable[[], Backbone]
) -> None:
    with pytest.raises(ConfigError, match="hosts no adapters: it hosts visual prompts in front of it and heads"):
        kind(make())


@all_kinds
def test_a_backbone_that_trains_refuses_every_adapter(kind: Callable[[Backbone], Adapter]) -> None:
    with pytest.raises(ConfigError, match="An adapter needs a frozen backbone"):
        kind(tiny_vit(frozen=False))


@pytest.mark.parametrize("blocks", [[], [1, 1], [-1], [6]])
def test_blocks_that_do_not_exist_are_refused(blocks: list[int]) -> None:
    with pytest.raises(ConfigError, match="blocks must be different numbers from 0 to 5"):
        LoRA(tiny_vit(), blocks=blocks)


def test_an_adapter_of_another_architecture_is_refused_when_it_attaches() -> None:
    with pytest.raises(ConfigError, match="This LoRA was built for test_vit with 6 blocks of width 64"):
        AdaptedPath(tiny_swin(), LoRA(tiny_vit()))


@all_kinds
def test_attaching_changes_neither_names_nor_hash_nor_features_of_the_backbone(
    kind: Callable[[Backbone], Adapter],
) -> None:
    backbone, image = tiny_vit(), torch.rand(2, 3, 64, 64)
    names, sha, features = list(backbone.state_dict()), backbone.content_sha256(), backbone(image)
    adapter = kind(backbone)
    perturb(adapter)
    adapted = AdaptedPath(backbone, adapter)
    assert not torch.allclose(adapted(backbone.normalize(image)), features, atol=1e-4)
    assert list(backbone.state_dict()) == names
    assert backbone.content_sha256() == sha
    assert torch.equal(backbone(image), features)


@all_kinds
def test_it_shares_the_backbones_tensors_also_after_a_copy_and_a_change_of_type(
    kind: Callable[[Backbone], Adapter],
) -> None:
    backbone = tiny_vit()
    adapted = AdaptedPath(backbone, kind(backbone))
    pair = copy.deepcopy(torch.nn.ModuleList([backbone, adapted])).double()
    for one, other in ((backbone, adapted), tuple(pair)):
        own = {id(parameter) for parameter in one.parameters()}
        assert own <= {id(parameter) for parameter in other.parameters()}
    assert next(iter(pair[1].parameters())).dtype == torch.float64


def test_an_adapter_for_a_backbone_fits_its_prepared_copy() -> None:
    backbone = tiny_vit()
    prepared = prepare_frozen(backbone)
    image = torch.rand(2, 3, 64, 64)
    adapted = AdaptedPath(prepared, LoRA(backbone, rank=2))
    torch.testing.assert_close(adapted(prepared.normalize(image)), backbone(image), atol=1e-5, rtol=1e-5)


def test_the_share_of_the_backbone_is_in_percent() -> None:
    backbone = tiny_vit()
    adapter = VPT(backbone, num_prompts=2, deep=False)
    total = sum(parameter.numel() for parameter in backbone.parameters())
    assert adapter.share_of_backbone() == pytest.approx(100 * 128 / total)
