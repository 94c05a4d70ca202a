"""FullImagePrompt: every pixel, nothing else."""

from __future__ import annotations

import torch

from movl_monai.prompts import FullImagePrompt


def test_full_image_prompt_from_zeros_is_exactly_the_identity() -> None:
    image = torch.rand(2, 3, 9, 7)
    assert torch.equal(FullImagePrompt(image_size=(9, 7))(image), image)


def test_full_image_prompt_adds_its_values_and_clamps() -> None:
    prompt, image = FullImagePrompt(image_size=(9, 7), init="normal"), torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(
        prompt(image), torch.minimum(torch.maximum(image + prompt.values, torch.zeros(())), torch.ones(()))
    )


def test_full_image_prompt_in_normalized_space_scales_by_the_channel_deviation() -> None:
    prompt = FullImagePrompt(image_size=(9, 7), space="normalized", std=(0.2, 0.3, 0.4), init="normal")
    for channel, std in enumerate((0.2, 0.3, 0.4)):
        torch.testing.assert_close(prompt.delta()[channel], prompt.values[channel] * std)


def test_full_image_prompt_has_a_parameter_per_pixel_unless_it_is_not_trainable() -> None:
    assert sum(p.numel() for p in FullImagePrompt(image_size=(9, 7)).parameters()) == 3 * 9 * 7
    assert not list(FullImagePrompt(image_size=(9, 7), trainable=False).parameters())


def test_full_image_prompt_scripts() -> None:
    prompt, image = FullImagePrompt(image_size=(9, 7), init="normal"), torch.rand(2, 3, 9, 7)
    assert torch.equal(torch.jit.script(prompt)(image), prompt(image))
