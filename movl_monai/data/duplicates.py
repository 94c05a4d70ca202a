"""Images with equal pixels or equal looks: leakage between splits, and one image under two labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["SAME_LOOK", "Duplicate", "find_duplicates", "find_looks", "looks_of", "pixel_digests"]

SAME_LOOK = 16
"""Largest distance between two codes of one image, in bits of 255.

Measured at 64 and 224 pixels: JPEG of quality 90 and 75, PNG and half the size move a code by 10 bits at most. Images
of different patients are 42 bits apart or more among 2,474 chest X-rays (but for one picture that is filed under two
patients), 30 among 400 fundus photographs, 76 among 100 CT slices, 48 among 2,189 slices of 60 MR volumes.
"""
_SIDE, _KEPT = 64, 16  # size of the small image in pixels, and of the block of its transform in the code
_LEAST_DEVIATION = 2.0  # of 255 levels; a nearly blank image has no look
_CHUNK = 1024


@dataclass(frozen=True)
class Duplicate:
    """Image with the pixels of an earlier one.

    Args:
        index: position of the image.
        of: position of the first image with these pixels.
        leaks: True if they lie in different splits of the in-distribution domain, or one in it and one in another
            domain.
        contradicts: True if they have different labels.
    """

    index: int
    of: int
    leaks: bool
    contradicts: bool

    @property
    def kind(self) -> str:
        """``other_split``, ``other_label``, ``other_split+other_label`` or ``repeated``."""
        kinds = [name for name, holds in (("other_split", self.leaks), ("other_label", self.contradicts)) if holds]
        return "+".join(kinds) or "repeated"


def pixel_digests(images: torch.Tensor) -> list[str]:
    """Compute a digest of the pixels of each image; "" for constant images, which are equal without being copies.

    Args:
        images: uint8 (N, 3, H, W).
    """
    digests = []
    for image in images:
        # the fast test comes first
        blank = image[0, 0, 0] == image[-1, -1, -1] and image.min() == image.max()
        digests.append("" if blank else hashlib.blake2b(image.numpy(), digest_size=16).hexdigest())
    return digests


def find_duplicates(
    images: torch.Tensor,
    items: Sequence[Mapping[str, Any]],
    *,
    id_domain: str,
    digests: Sequence[str] | None = None,
) -> list[Duplicate]:
    """Find images whose decoded pixels equal those of an earlier image; constant images are not compared.

    Args:
        images: uint8 (N, 3, H, W).
        items: the N items.
        id_domain: name of the in-distribution domain.
        digests: result of :func:`pixel_digests` for the images, if known.
    """
    first: dict[str, int] = {}
    duplicates = []
    for index, digest in enumerate(pixel_digests(images) if digests is None else digests):
        of = first.setdefault(digest, index) if digest else index
        if of != index:
            one, other = items[of], items[index]
            places = {(one["domain"], one["split"]), (other["domain"], other["split"])}
            leaks = len(places) > 1 and id_domain in (one["domain"], other["domain"])
            labels = {one["label"], other["label"]}
            duplicates.append(Duplicate(index, of, leaks, contradicts=len(labels - {None}) > 1))
    return duplicates


def looks_of(images: torch.Tensor) -> list[str]:
    """Compute the codes of images: the signs of the lowest spatial frequencies around their median.

    Args:
        images: uint8 (N, 3, H, W).

    Returns:
        64 hexadecimal digits for each image; "" for one without contrast.

    Reference:
        C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010 (DCT hash), here with
        16 x 16 coefficients instead of 8 x 8: medical images share their coarse layout.
    """
    from torch.nn import functional

    basis = _cosines()
    codes: list[str] = []
    for start in range(0, len(images), _CHUNK):
        grey = images[start : start + _CHUNK].float().mean(dim=1, keepdim=True)
        small = functional.interpolate(grey, size=(_SIDE, _SIDE), mode="area")[:, 0]
        waves = (basis @ small @ basis.T).flatten(1)[:, 1:]  # without the mean
        bits = (waves > waves.median(dim=1, keepdim=True).values).numpy()
        flat = (small.flatten(1).std(dim=1) < _LEAST_DEVIATION).tolist()
        packed = np.packbits(bits, axis=1)
        codes += ["" if blank else code.tobytes().hex() for blank, code in zip(flat, packed, strict=True)]
    return codes


def find_looks(codes: Sequence[str], known: Sequence[str], *, within: int = SAME_LOOK) -> list[int | None]:
    """Return the position of the nearest known code for each code, None if none is within ``within`` bits.

    Example:
        >>> find_looks(["00" * 32, "ff" * 32], ["ff" * 32, "", "01" + "00" * 31])
        [2, 0]
    """
    positions = [index for index, code in enumerate(known) if code]
    asked = [index for index, code in enumerate(codes) if code]
    found: list[int | None] = [None] * len(codes)
    if not positions or not asked:
        return found
    there = _signs([known[index] for index in positions])
    for start in range(0, len(asked), _CHUNK):
        part = asked[start : start + _CHUNK]
        # the scalar product of two sign vectors is bits - 2 x distance
        nearest = (_signs([codes[index] for index in part]) @ there.T).max(dim=1)
        for index, product, place in zip(part, nearest.values.tolist(), nearest.indices.tolist(), strict=True):
            if (there.shape[1] - product) / 2 <= within:
                found[index] = positions[place]
    return found


def _signs(codes: Sequence[str]) -> torch.Tensor:
    import torch

    packed = np.frombuffer(bytes.fromhex("".join(codes)), dtype=np.uint8).reshape(len(codes), -1)
    return torch.from_numpy(np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1)


def _cosines() -> torch.Tensor:
    """Return the first rows of the discrete cosine transform (type 2) of :data:`_SIDE` values, orthonormal."""
    import torch

    frequency = torch.arange(_KEPT, dtype=torch.float32)[:, None]
    place = torch.arange(_SIDE, dtype=torch.float32)[None] + 0.5
    basis = torch.cos(torch.pi / _SIDE * frequency * place) * (2 / _SIDE) ** 0.5
    basis[0] /= 2**0.5
    return basis
