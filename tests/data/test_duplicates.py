"""Repeated pixels, and the cases in which they matter."""

from __future__ import annotations

import torch

from movl_monai.data.duplicates import find_duplicates

IMAGES = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
A, B = IMAGES


def item(label: int = 0, split: str = "train", domain: str = "id") -> dict[str, object]:
    return {"label": label, "split": split, "domain": domain}


def kinds(images: list[torch.Tensor], items: list[dict[str, object]]) -> list[tuple[int, int, str]]:
    found = find_duplicates(torch.stack(images), items, id_domain="id")
    return [(duplicate.index, duplicate.of, duplicate.kind) for duplicate in found]


def test_different_images_are_no_duplicates() -> None:
    assert kinds([A, B], [item(), item()]) == []


def test_one_changed_level_is_another_image() -> None:
    changed = A.clone()
    changed[2, 3, 3] ^= 1
    assert kinds([A, changed], [item(), item()]) == []


def test_duplicates_refer_to_the_first() -> None:
    assert kinds([A, B, A, A], [item()] * 4) == [(2, 0, "repeated"), (3, 0, "repeated")]


def test_kinds_tell_leakage_and_contradiction() -> None:
    images = [A] * 6
    items = [item(), item(split="val"), item(1), item(1, "test"), item(domain="far", split="test"), item()]
    assert [kind for _, _, kind in kinds(images, items)] == [
        "other_split",
        "other_label",
        "other_split+other_label",
        "other_split",
        "repeated",
    ]


def test_copies_within_other_domains_do_not_leak() -> None:
    assert kinds([A, A], [item(domain="far"), item(domain="farther")]) == [(1, 0, "repeated")]


def test_blank_images_are_no_copies() -> None:
    blank = torch.zeros_like(A)
    assert kinds([blank, blank], [item(), item(split="test")]) == []
