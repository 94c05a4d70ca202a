"""Pictures of prompts: zero is mid-grey, signs and strength are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from movl_monai.prompts import FullImagePrompt, PadPrompt, difference_picture, prompt_picture, write_picture


def prompt_with_three_values() -> FullImagePrompt:
    prompt = FullImagePrompt(image_size=(2, 3))
    with torch.no_grad():
        prompt.values[0, 0] = torch.tensor([-0.02, 0.01, 0.02])
    return prompt


def test_prompt_picture_amplifies_to_the_full_range_around_mid_grey() -> None:
    picture = prompt_picture(prompt_with_three_values())
    assert picture.dtype == np.uint8
    assert picture.shape == (2, 3, 3)
    assert picture[0, :, 0].tolist() == [0, 191, 255]
    assert set(picture[1:].flatten()) | set(picture[..., 1:].flatten()) == {128}


def test_prompt_picture_of_a_prompt_that_adds_nothing_is_mid_grey() -> None:
    assert set(prompt_picture(PadPrompt(image_size=8, width=2)).flatten()) == {128}


def test_difference_picture_shows_what_is_left_after_clamping() -> None:
    image = torch.zeros(3, 2, 3)
    picture = difference_picture(prompt_with_three_values(), image, gain=25)
    assert picture[0, :, 0].tolist() == [128, 159, 191]  # -0.02 is clamped away on black


@pytest.mark.parametrize("gain", [0.0, -1.0])
def test_difference_picture_refuses_a_gain_that_shows_nothing(gain: float) -> None:
    with pytest.raises(ValueError, match="gain must be > 0"):
        difference_picture(prompt_with_three_values(), torch.zeros(3, 2, 3), gain=gain)


def test_written_picture_reads_back_equal(tmp_path: Path) -> None:
    picture = prompt_picture(prompt_with_three_values())
    write_picture(tmp_path / "prompt.png", picture)
    with Image.open(tmp_path / "prompt.png") as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
