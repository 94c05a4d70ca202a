"""Corrupt decoded images with draws that depend on their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from movl_monai.errors import ConfigError
from movl_monai.transforms import image_to_uint8, uint8_to_image
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = ["choose_corruptions", "corrupt_images", "pixel_names", "severities_of"]


def pixel_names(images: torch.Tensor) -> list[str]:
    """Return the SHA-256 of the pixels of each image, uint8 (N, 3, H, W).

    The corruptions seed their draws with this name. Salted ids differ between output folders, but the same image must
    get the same noise on every machine.

    Example:
        >>> [name[:8] for name in pixel_names(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))]
        ['15ec7bf0']
    """
    return [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in images]


def corrupt_images(
    images: torch.Tensor, names: Sequence[str], *, corruption: str, severity: int, seed: int
) -> torch.Tensor:
    """Corrupt images and round them to 256 grey levels, as the last step of every network's preprocessing does.

    Args:
        images: uint8 (N, 3, H, W).
        names: names of the images, which the draws depend on.
        corruption: a name of :data:`~movl_monai.transforms.corruptions.CORRUPTIONS`.
        severity: severity of the corruption; 0 changes nothing.
        seed: seed of the draws.

    Returns:
        uint8 (N, 3, H, W).
    """
    corrupt = CORRUPTIONS[corruption](severity=severity, seed=seed)
    pairs = zip(images, names, strict=True)
    return torch.stack([image_to_uint8(corrupt(uint8_to_image(image), name)) for image, name in pairs])


def choose_corruptions(names: Sequence[str] | None) -> list[str]:
    """Check names of corruptions and return them in table order; None takes all.

    Raises:
        ConfigError: for an unknown name, or an empty list.
    """
    wanted = list(CORRUPTIONS) if names is None else list(names)
    unknown = [name for name in wanted if name not in CORRUPTIONS]
    if unknown or not wanted:
        got = f"'{unknown[0]}'" if unknown else "none"
        raise ConfigError(f"Corruptions must be of {', '.join(CORRUPTIONS)}, got {got}.")
    return [name for name in CORRUPTIONS if name in wanted]


def severities_of(corruption: str, wanted: Sequence[int]) -> list[int]:
    """Return the requested severities of a corruption; a corruption with a single form always has severity 1.

    Raises:
        ConfigError: if the list is empty, or a severity is not from 1 to 5.

    Example:
        >>> severities_of("gamma", [5, 1]), severities_of("inversion", [3, 5])
        ([1, 5], [1])
    """
    largest = max(len(part.parameters) for part in CORRUPTIONS.values())
    if not wanted or any(not 1 <= severity <= largest for severity in wanted):
        raise ConfigError(f"Severities must be whole numbers from 1 to {largest}, such as 1,3,5, got {list(wanted)}.")
    own = len(CORRUPTIONS[corruption].parameters)
    return [1] if own == 1 else sorted(set(wanted))
