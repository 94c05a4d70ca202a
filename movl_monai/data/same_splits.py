"""Comparison of the splits that two trainings kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from movl_monai.data.kept_splits import KeptSplits
from movl_monai.data.looks import find_looks

__all__ = ["splits_differ"]


def splits_differ(one: KeptSplits, other: KeptSplits) -> str:
    """Describe the differences in splits or patients between two trainings; "" if there are none.

    Codes of files and patients are salted per run. The look of an image is not salted, and may differ by a few bits
    between machines.
    """
    looks = [image.look for image in one.images]
    theirs = [image.look for image in other.images]
    same = [
        look if place is None else looks[place] for look, place in zip(theirs, find_looks(theirs, looks), strict=True)
    ]
    if _patients(one, looks) == _patients(other, same):
        return ""
    rows = [
        Counter((look, image.split) for image, look in zip(kept.images, found, strict=True))
        for kept, found in ((one, looks), (other, same))
    ]
    if rows[0] == rows[1]:
        return "the same images belong to other patients"
    sizes = [Counter(split or "none" for _, split in row.elements()) for row in rows]
    counts = [", ".join(f"{name} {size[name]}" for name in sorted(size)) for size in sizes]
    where = sorted({split or "none" for row in (rows[0] - rows[1], rows[1] - rows[0]) for _, split in row})
    return (
        f"{(rows[0] - rows[1]).total()} of {rows[0].total()} images of the first ({counts[0]}) are in another split of "
        f"the second ({counts[1]}) or not in it; {', '.join(where)} differ"
    )


def _patients(kept: KeptSplits, looks: Sequence[str]) -> Counter[tuple[tuple[str, str], ...]]:
    """Count the sets of looks and splits per patient; images of unknown patients stand alone."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for number, (image, look) in enumerate(zip(kept.images, looks, strict=True)):
        groups[image.patient or f"image {number}"].append((look, image.split))
    return Counter(tuple(sorted(group)) for group in groups.values())
