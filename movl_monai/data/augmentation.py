"""Random transforms whose draws depend only on the image and the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable

__all__ = ["apply_seeded", "call_seeded", "in_turn"]


def in_turn(augment: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None) -> Callable[[Any], Any] | None:
    """Return one transform that applies the given ones in their order; None for none, a single one as it is.

    Example:
        >>> in_turn([lambda value: value + 1, lambda value: 10 * value])(2)
        30
        >>> in_turn([]) is None, in_turn([abs]) is abs
        (True, True)
    """
    if not isinstance(augment, Sequence):
        return augment
    return Compose(augment) if len(augment) > 1 else next(iter(augment), None)


def apply_seeded(
    augment: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, key: Sequence[int]
) -> torch.Tensor:
    """Apply a random transform with the randomness of ``key``.

    MONAI's random transforms are seeded through ``set_random_state``, others through torch's CPU generator, whose state
    is restored afterwards. Draws from ``random`` or ``numpy.random`` are not controlled.

    Args:
        augment: random transform of one image.
        image: float32 (3, H, W) in [0, 1].
        key: non-negative numbers, such as (seed, epoch, index).

    Returns:
        float32 (3, H, W), the result of ``augment`` without MONAI's metadata.

    Example:
        >>> noise = lambda image: image + torch.rand_like(image)
        >>> image = torch.zeros(3, 2, 2)
        >>> bool((apply_seeded(noise, image, (0, 0, 1)) == apply_seeded(noise, image, (0, 0, 1))).all())
        True
    """
    return call_seeded(augment, image, key).as_subclass(torch.Tensor)


def call_seeded(augment: Callable[[Any], Any], value: Any, key: Sequence[int]) -> Any:
    """Call a random transform of any value with the randomness of ``key``.

    See :func:`apply_seeded`.
    """
    seed = int(np.random.SeedSequence(list(key)).generate_state(1)[0])
    if isinstance(augment, Randomizable):
        augment.set_random_state(seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return augment(value)
