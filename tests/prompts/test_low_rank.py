"""LowRankPrompt: zero product at its start, and a gradient all the same."""

from __future__ import annotations

import pytest
import torch

from movl_monai.prompts import LowRankPrompt


def test_low_rank_prompt_starts_as_exactly_the_identity() -> None:
    image = torch.rand(2, 3, 9, 7)
    assert torch.equal(LowRankPrompt(image_size=(9, 7), rank=2)(image), image)


def test_low_rank_prompt_has_a_gradient_at_its_start() -> None:
    prompt = LowRankPrompt(image_size=(9, 7), rank=2)
    (prompt(torch.rand(2, 3, 9, 7)) * torch.rand(3, 9, 7)).sum().backward()
    assert bool((prompt.rows.grad != 0).all())


def test_low_rank_prompt_equals_the_sum_of_outer_products_and_has_that_rank() -> None:
    prompt = LowRankPrompt(image_size=(9, 7), rank=2)
    torch.nn.init.normal_(prompt.rows)
    a, b = prompt.rows.detach(), prompt.columns.detach()
    for channel in range(3):
        expected = sum(torch.outer(a[channel, :, k], b[channel, k]) for k in range(2))
        torch.testing.assert_close(prompt.delta()[channel].detach(), expected)
        assert torch.linalg.matrix_rank(prompt.delta()[channel].detach()) == 2


def test_low_rank_prompt_moves_as_far_for_every_rank() -> None:
    deviations = []
    for rank in (1, 16):
        prompt = LowRankPrompt(image_size=200, rank=rank)
        torch.nn.init.normal_(prompt.rows)
        deviations.append(prompt.delta().std().item())
    assert deviations[0] == pytest.approx(deviations[1], rel=0.1)


def test_low_rank_prompt_repeats_with_its_seed() -> None:
    first, again, other = (LowRankPrompt(image_size=9, rank=2, seed=seed).columns for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_low_rank_prompt_scripts() -> None:
    prompt, image = LowRankPrompt(image_size=(9, 7), rank=2), torch.rand(2, 3, 9, 7)
    torch.nn.init.normal_(prompt.rows)
    torch.testing.assert_close(torch.jit.script(prompt)(image), prompt(image))


@pytest.mark.parametrize("rank", [0, 8])
def test_low_rank_prompt_refuses_a_rank_out_of_range(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank must be between 1 and 7 for 9 x 7 images, got {rank}"):
        LowRankPrompt(image_size=(9, 7), rank=rank)
