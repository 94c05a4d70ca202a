"""Randomness that depends on the key and on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.transforms import Compose, RandGaussianNoise

from movl_monai.data.augmentation import apply_seeded

MONAI = Compose([RandGaussianNoise(prob=1.0, std=0.1)])
IMAGE = torch.full((3, 4, 4), 0.5)


def torch_noise(image: torch.Tensor) -> torch.Tensor:
    return image + torch.rand_like(image)


@pytest.mark.parametrize("augment", [MONAI, torch_noise])
def test_the_key_decides_and_not_what_was_drawn_before(augment: Callable[[torch.Tensor], torch.Tensor]) -> None:
    first = apply_seeded(augment, IMAGE, (0, 1, 2))
    other = apply_seeded(augment, IMAGE, (0, 1, 3))
    torch.rand(7)
    again = apply_seeded(augment, IMAGE, (0, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert type(first) is torch.Tensor


def test_the_generator_of_the_caller_is_untouched() -> None:
    before = torch.get_rng_state()
    apply_seeded(torch_noise, IMAGE, (0,))
    assert torch.equal(torch.get_rng_state(), before)
