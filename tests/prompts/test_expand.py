"""ExpandPrompt: the whole image, smaller, in a learned frame."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from movl_monai.prompts import ExpandPrompt


def test_expand_prompt_holds_the_whole_image_resized_in_a_black_frame_at_its_start() -> None:
    image = torch.rand(2, 3, 20, 24)
    prompted = ExpandPrompt(image_size=(20, 24), width=4)(image)
    torch.testing.assert_close(
        prompted[..., 4:-4, 4:-4], F.interpolate(image, size=(12, 16), mode="bilinear", antialias=True)
    )
    frame = torch.ones(20, 24, dtype=torch.bool)
    frame[4:-4, 4:-4] = False
    assert not prompted[..., frame].any()


def test_expand_prompt_frame_does_not_depend_on_the_image() -> None:
    prompt = ExpandPrompt(image_size=20, width=4, init="normal")
    first, second = prompt(torch.rand(2, 3, 20, 20))
    assert torch.equal(first[:, :4], second[:, :4])
    assert torch.equal(first[:, :4], prompt.top.clamp(0, 1))
    assert not torch.equal(first[:, 4:-4, 4:-4], second[:, 4:-4, 4:-4])


def test_expand_prompt_frame_gets_a_gradient_at_its_start() -> None:
    prompt = ExpandPrompt(image_size=20, width=4)
    (-prompt(torch.rand(2, 3, 20, 20)).sum()).backward()
    assert all(bool((parameter.grad == -2).all()) for parameter in prompt.parameters())


def test_expand_prompt_that_is_not_trainable_has_no_parameter() -> None:
    assert not list(ExpandPrompt(image_size=20, width=4, trainable=False).parameters())


def test_expand_prompt_scripts() -> None:
    prompt, image = ExpandPrompt(image_size=(20, 24), width=4, init="normal"), torch.rand(2, 3, 20, 24)
    assert torch.equal(torch.jit.script(prompt)(image), prompt(image))


def test_expand_prompt_refuses_a_width_without_interior() -> None:
    with pytest.raises(ValueError, match="between 1 and 9 pixels"):
        ExpandPrompt(image_size=20, width=10)
