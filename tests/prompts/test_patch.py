"""PatchPrompt: a rectangle at a fixed place."""

from __future__ import annotations

import pytest
import torch

from movl_monai.prompts import PatchPrompt


def test_patch_prompt_changes_its_rectangle_only() -> None:
    prompt = PatchPrompt(image_size=(9, 7), size=(3, 2), position=(4, 5), init="normal", init_std=9.0)
    image = 0.9 * torch.rand(2, 3, 9, 7) + 0.05
    changed = (prompt(image) != image).all(dim=1).all(dim=0)
    expected = torch.zeros(9, 7, dtype=torch.bool)
    expected[4:7, 5:7] = True
    assert torch.equal(changed, expected)


def test_patch_prompt_from_zeros_is_exactly_the_identity() -> None:
    image = torch.rand(2, 3, 9, 7)
    assert torch.equal(PatchPrompt(image_size=(9, 7), size=3)(image), image)


def test_patch_prompt_may_fill_the_image() -> None:
    assert PatchPrompt(image_size=(9, 7), size=(9, 7)).parameter_image().shape == (3, 9, 7)


def test_patch_prompt_scripts() -> None:
    prompt, image = PatchPrompt(image_size=(9, 7), size=3, position=(1, 2), init="normal"), torch.rand(2, 3, 9, 7)
    assert torch.equal(torch.jit.script(prompt)(image), prompt(image))


@pytest.mark.parametrize(("size", "position"), [(3, (7, 0)), (3, (0, 5)), (3, (-1, 0)), (0, (0, 0)), ((10, 1), (0, 0))])
def test_patch_prompt_refuses_a_patch_that_is_not_inside(size: int, position: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not inside an image of 9 x 7"):
        PatchPrompt(image_size=(9, 7), size=size, position=position)
