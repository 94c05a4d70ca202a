"""VPT: the effect of its tokens, shallow and deep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from movl_monai.adapters import VPT
from movl_monai.backbones import Backbone
from movl_monai.errors import ConfigError
from movl_monai.networks.adapted import AdaptedPath
from tests.adapters.reference import mask_appended, perturb
from tests.helpers import tiny_clip, tiny_swin, tiny_vit

vits = pytest.mark.parametrize("make", [tiny_vit, tiny_clip], ids=["vit", "clip"])
kinds = pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])


def _image(backbone: Backbone) -> torch.Tensor:
    return torch.randn(2, 3, backbone.spec.image_size, backbone.spec.image_size)


@vits
@kinds
def test_features_follow_the_equations(make: Callable[[], Backbone], deep: bool) -> None:
    backbone = make()
    adapter, image = VPT(backbone, num_prompts=3, deep=deep), _image(backbone)
    perturb(adapter)
    path = backbone.token_path()
    with torch.no_grad():
        tokens = path.embed(image)
        own = tokens.shape[1]
        for number, block in enumerate(path.blocks):
            if deep or number == 0:
                tokens = torch.cat([tokens[:, :own], adapter.prompts[number].expand(2, -1, -1)], dim=1)
            tokens = block(tokens)
        torch.testing.assert_close(AdaptedPath(backbone, adapter)(image), path.pool(tokens[:, :own]))


@vits
@kinds
def test_it_changes_nothing_but_the_attention(
    make: Callable[[], Backbone], deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make()
    adapter, image = VPT(backbone, num_prompts=3, deep=deep), _image(backbone)
    with torch.no_grad():
        plain, unmasked = backbone.encoder(image), AdaptedPath(backbone, adapter)(image)
        mask_appended(monkeypatch, 3)
        torch.testing.assert_close(AdaptedPath(backbone, adapter)(image), plain, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(unmasked, plain, atol=1e-4)


def test_a_shallow_prompt_has_one_set_of_tokens_and_a_deep_one_a_set_per_block() -> None:
    assert VPT(tiny_vit(), num_prompts=2, deep=False).num_parameters() == 2 * 64
    assert VPT(tiny_vit(), num_prompts=2, deep=True).num_parameters() == 6 * 2 * 64


def test_tokens_do_not_touch_positions_because_the_order_of_the_sequence_does_not_matter() -> None:
    """Appended behind or put between class token and image: the same features, as the docstring says."""
    backbone = tiny_vit()
    adapter, image = VPT(backbone, num_prompts=3, deep=False), _image(backbone)
    path = backbone.token_path()
    with torch.no_grad():
        tokens = path.embed(image)
        tokens = torch.cat([tokens[:, :1], adapter.prompts[0].expand(2, -1, -1), tokens[:, 1:]], dim=1)
        for block in path.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(AdaptedPath(backbone, adapter)(image), path.pool(tokens))


def test_a_hierarchy_refuses_it_and_names_what_it_hosts() -> None:
    with pytest.raises(ConfigError, match="hosts no VPT: .* It hosts DVPT, AdaptFormer, LoRA, SSF or BitFit"):
        VPT(tiny_swin())


@pytest.mark.parametrize("count", [0, 17])
def test_more_prompts_than_image_tokens_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"num_prompts must be between 1 and 16, .* got {count}"):
        VPT(tiny_vit(), num_prompts=count)
