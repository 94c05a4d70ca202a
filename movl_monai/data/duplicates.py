"""Images with equal pixels: leakage between splits, and one image under two labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Duplicate", "find_duplicates", "pixel_digests"]


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
