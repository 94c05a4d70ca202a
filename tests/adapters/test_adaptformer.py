"""AdaptFormer against its equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from movl_monai.adapters import AdaptFormer
from movl_monai.errors import ConfigError
from movl_monai.networks.adapted import AdaptedPath
from tests.adapters.reference import perturb
from tests.helpers import tiny_clip, tiny_vit


def test_a_block_follows_the_equations() -> None:
    backbone = tiny_vit()
    adapter = AdaptFormer(backbone, bottleneck=4, scale=0.7)
    perturb(adapter)
    adapted, block = AdaptedPath(backbone, adapter), backbone.encoder.blocks[2]
    branch, tokens = adapter.branches[2], torch.randn(2, 17, 64)
    with torch.no_grad():
        x = tokens + block.attn(block.norm1(tokens))
        normed = block.norm2(x)
        added = F.relu(normed @ branch.down.T + branch.down_bias) @ branch.up.T + branch.up_bias
        torch.testing.assert_close(adapted.path.blocks[2](tokens), block.mlp(normed) + 0.7 * added + x)


def test_it_sits_in_the_chosen_blocks_only() -> None:
    backbone = tiny_clip()
    adapter = AdaptFormer(backbone, bottleneck=2, blocks=[3, 1])
    perturb(adapter)
    adapted, plain = AdaptedPath(backbone, adapter).path, backbone.token_path()
    tokens = torch.randn(1, 17, 32)
    with torch.no_grad():
        same = [torch.equal(a(tokens), b(tokens)) for a, b in zip(adapted.blocks, plain.blocks, strict=True)]
    assert same == [True, False, True, False]


@pytest.mark.parametrize(("options", "message"), [({"bottleneck": 0}, "bottleneck must be"), ({"scale": 0}, "scale")])
def test_bad_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptFormer(tiny_vit(), **options)
