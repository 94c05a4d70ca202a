"""Find images with the same pixels: leakage between splits, and one image under two labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Duplicate", "find_duplicates"]


@dataclass(frozen=True)
class Duplicate:
    """An image with the pixels of an earlier one.

    Args:
        index: position of the image.
        of: position of the first image with these pixels.
        leaks: they lie in different splits of the in-distribution domain, or one in it and one in another domain.
        contradicts: they have different labels.
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


def find_duplicates(images: torch.Tensor, items: Sequence[Mapping[str, Any]], *, id_domain: str) -> list[Duplicate]:
    """Images whose decoded pixels equal those of an earlier image; images of one value only are not compared.

    Args:
        images: uint8 (N, 3, H, W).
        items: the N items.
        id_domain: name of the in-distribution domain.
    """
    first: dict[bytes, int] = {}
    duplicates = []
    for index, image in enumerate(images):
        # blank frames are alike without being copies; the fast test comes first
        if image[0, 0, 0] == image[-1, -1, -1] and image.min() == image.max():
            continue
        of = first.setdefault(hashlib.blake2b(image.numpy(), digest_size=16).digest(), index)
        if of != index:
            one, other = items[of], items[index]
            places = {(one["domain"], one["split"]), (other["domain"], other["split"])}
            leaks = len(places) > 1 and id_domain in (one["domain"], other["domain"])
            labels = {one["label"], other["label"]}
            duplicates.append(Duplicate(index, of, leaks, contradicts=len(labels - {None}) > 1))
    return duplicates
