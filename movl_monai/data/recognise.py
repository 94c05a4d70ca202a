"""Recognise images of a training by their pixels: renamed, re-encoded or moved images, and leaks."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch

from movl_monai.data.datalist import Datalist, Item
from movl_monai.data.duplicates import find_looks, looks_of
from movl_monai.data.keep import COPY, Keeping, Leak, leakage_error
from movl_monai.data.kept_splits import LEARNED, KeptSplits
from movl_monai.errors import DataError

__all__ = ["pixel_leaks", "recognise"]

logger = logging.getLogger(__name__)


def recognise(datalist: Datalist, items: Sequence[Item], pixels: Sequence[str], images: torch.Tensor) -> list[int]:
    """Compare decoded images with the images of the training whose splits ``datalist`` keeps.

    A new image without a split gets the split of the training's image with the same pixels or the same look (another
    encoding, another size). The same path counts too, if most paths of the data set still hold the same images. All
    slices of a file stay together. Images that are still without a split are left out.

    Args:
        datalist: with ``keeping``.
        items: the N decoded items of ``datalist``; their ``split`` and ``known`` are filled in.
        pixels: digest of the pixels of each, "" for a blank one.
        images: uint8 (N, 3, H, W).

    Returns:
        Positions of the remaining items.

    Raises:
        LeakageError: if an image that is scored as test has the pixels, or a new one the look, of an image that the
            network learned from.
        DataError: if test images are requested and none remains.
    """
    keeping = datalist.keeping
    if keeping is None:
        return list(range(len(items)))
    matches = _Matches(keeping, items, pixels, images, id_domain=datalist.id_domain)
    leaks = matches.leaks()
    if leaks:
        path = datalist.id_map.path
        raise leakage_error(leaks, None if path is None else path.parent)
    if datalist.wanted is None:
        return list(range(len(items)))
    matches.settle(datalist)
    stay = [
        index
        for index, item in enumerate(items)
        if item["domain"] != datalist.id_domain or item["split"] in datalist.wanted
    ]
    _check_left(datalist, [items[index] for index in stay])
    return stay


def pixel_leaks(
    kept: KeptSplits, items: Sequence[Item], pixels: Sequence[str], images: torch.Tensor, *, id_domain: str
) -> list[Leak]:
    """Return scored images, by pixels and look, that the training with the splits ``kept`` learned from.

    Args:
        kept: the splits.
        items: with ``known``, the split of an image in ``kept`` by its file.
        pixels: digest of the pixels of each.
        images: uint8 (N, 3, H, W), preprocessed as in that training.
        id_domain: name of the in-distribution domain.
    """
    return _Matches(Keeping(kept=kept), items, pixels, images, id_domain=id_domain).leaks()


class _Matches:
    """Rows of the kept splits that match decoded images by pixels or look."""

    def __init__(
        self,
        keeping: Keeping,
        items: Sequence[Item],
        pixels: Sequence[str],
        images: torch.Tensor,
        *,
        id_domain: str,
    ) -> None:
        self.keeping = keeping
        self.items = items
        kept = keeping.kept
        self.rows = [kept.by_pixels.get(kept.content_code(digest), []) for digest in pixels]
        self.scored = [i for i, item in enumerate(items) if item["domain"] != id_domain or item["split"] == "test"]
        self.new = [i for i, item in enumerate(items) if item["split"] is None and item.get("known") == ""]
        self.looks = self._looks_learned(images)
        asked = [index for index in self.new if not self.rows[index]]
        if asked:
            found = find_looks(looks_of(images[asked]), [image.look for image in kept.images])
            for index, row in zip(asked, found, strict=True):
                self.rows[index] = [] if row is None else [row]

    def leaks(self) -> list[Leak]:
        """Return images on their way into test that the network learned from.

        An image that was test in training, too, and only looks like a learned one is no more than a warning.
        """
        found: list[tuple[Item, Literal["pixels", "look"]]] = []
        for index in self.scored:
            if any(self._split(row) in LEARNED for row in self.rows[index]):
                found.append((self.items[index], "pixels"))
            elif index in self.looks:
                found.append((self.items[index], "look"))
        alike = sum(how == "look" and item.get("known") == "test" for item, how in found)
        if alike:
            logger.warning(
                "%d test images look like images that the network learned from: neighbours of one examination, or "
                "copies that were in the data set before it was split. Figures on them may be too good.",
                alike,
            )
        return [
            Leak(path=item["image"], found=how, domain=item["domain"])
            for item, how in found
            if how == "pixels" or item.get("known") != "test"
        ]

    def _looks_learned(self, images: torch.Tensor) -> set[int]:
        """Return the scored images that look like one that the network learned from."""
        learned = [image.look for image in self.keeping.kept.images if image.split in LEARNED]
        if not self.scored or not any(learned):
            return set()
        found = find_looks(looks_of(images[self.scored]), learned)
        return {index for index, row in zip(self.scored, found, strict=True) if row is not None}

    def settle(self, datalist: Datalist) -> None:
        """Give new images without a split the split of their image in the training."""
        new = self.new
        for index in new:
            row = self.keeping.claim(self.rows[index]) if self.rows[index] else None
            if row is not None:
                self._keep(self.items[index], self._split(row))
            elif self.rows[index]:
                self.items[index]["known"] = COPY
        self._together(new)
        self._by_name(datalist, [index for index in new if self.items[index]["known"] == ""])
        counts = Counter(self.items[index]["split"] for index in new if self.items[index]["split"])
        if counts:
            logger.warning(
                "%d of the new images are known by their pixels, look or path and keep the split of training: %s.",
                sum(counts.values()),
                ", ".join(f"{split} {count}" for split, count in sorted(counts.items())),
            )

    def _together(self, new: Iterable[int]) -> None:
        """Give unrecognised slices of a file, such as blank ones, the split of its recognised slices."""
        files: dict[str, list[Item]] = defaultdict(list)
        for index in new:
            files[self.items[index]["image"]].append(self.items[index])
        for items in files.values():
            split = next((item["split"] for item in items if item["split"]), None)
            if split is not None:
                for item in items:
                    self._keep(item, split)

    def _by_name(self, datalist: Datalist, rest: Sequence[int]) -> None:
        """Keep the split of a changed image under its old path, unless the paths belong to another data set."""
        kept, keys = self.keeping.kept, datalist.id_map.keys()
        names = {index: keys[self.items[index]["id"]] for index in rest if self.items[index]["id"] in keys}
        kept.slow_codes("image", (key for key, _ in names.values()))
        claims: dict[int, list[int]] = {}
        for index, (key, frame) in names.items():
            rows = kept.by_image.get(kept.image_code(key), [])
            claims[index] = [row for row in rows if kept.images[row].frame == ("" if frame is None else str(frame))]
        named = {index: rows for index, rows in claims.items() if rows}
        if len(named) > len(self.keeping.claimed):
            return
        for index, rows in named.items():
            row = self.keeping.claim(rows)
            if row is not None:
                self._keep(self.items[index], self._split(row))

    def _split(self, row: int) -> str:
        return self.keeping.kept.images[row].split

    @staticmethod
    def _keep(item: Item, split: str) -> None:
        item["split"] = item["known"] = split or None


def _check_left(datalist: Datalist, items: Sequence[dict[str, Any]]) -> None:
    """Refuse an evaluation of test images without any, because all images are new."""
    if "test" not in (datalist.wanted or ()) or any(item["split"] == "test" for item in items):
        return
    new = sum(item["split"] is None for item in datalist)
    if new:
        raise DataError(
            f"There is no test image: {new} images of the data set are none that the training knew, and so in no "
            "split. To score them as test, give `--new_images test`, or mark them in the column `split` of a manifest."
        )
