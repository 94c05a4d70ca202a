"""Data set of images with masks that are decoded once and kept in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from movl_monai.data.augmentation import call_seeded
from movl_monai.data.checks import check_swapped
from movl_monai.data.datalist import Item
from movl_monai.data.dataset import ImageDataset, rows_of
from movl_monai.data.decode import Decoded
from movl_monai.errors import DataError

__all__ = ["SegmentationDataset"]

_FACTS = (
    *("rows", "columns", "pixel_spacing", "slice_spacing", "slice_axis", "frame", "frames", "format"),
    *("flags", "voxel_mm3"),
)


class SegmentationDataset(ImageDataset):
    """Decode every image and mask of a list once, keep both as uint8, and report each file.

    An item is ``{"image": uint8 (3, H, W), "mask": uint8 (H, W), "index": int, "id": str, "case": str, "split": str,
    "domain": str}``; without ``mask`` if the list has none. ``case`` is the id of a slice's volume, for any other image
    its own id. With ``augment``, ``image`` is float32 in [0, 1] and the mask moves with it.

    Attributes:
        masks: uint8 (N, H, W), the classes at the size of the images; (0, 0, 0) without masks.
        cases: case of each image.
        geometry: native ``rows`` and ``columns`` of each image, and if known ``pixel_spacing`` (mm between rows and
            between columns); for a slice also ``slice_spacing``, ``slice_axis``, ``frame``, ``frames``.

    Args:
        datalist: see :func:`movl_monai.data.read_mask_datalist`.
        transform: maps an item to an item with ``image`` as float32 (3, H, W) in [0, 1], ``mask`` as uint8 (1, H, W),
            and ``native_mask``, the mask before resizing.
        options: of :class:`ImageDataset`; ``augment`` maps ``{"image": (3, H, W), "mask": (1, H, W)}`` to the same.

    Raises:
        DataError: as :class:`ImageDataset`.
        ImageContractError: if the transform does not return an image and its mask.
    """

    masks: torch.Tensor
    cases: list[str]
    geometry: list[dict[str, Any]]
    _native: list[bytes | None]

    @property
    def has_masks(self) -> bool:
        """True if the images have masks."""
        return self.masks.numel() > 0

    def native_mask(self, index: int) -> np.ndarray:
        """Return the classes of an image at its native size, uint8 (rows, columns).

        Raises:
            DataError: if it has no mask.
        """
        packed, facts = self._native[index], self.geometry[index]
        if packed is None:
            raise DataError("The image has no mask, so nothing can be compared with it; give masks, or run inference.")
        values = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
        return values.reshape(facts["rows"], facts["columns"])

    def pixel_counts(self, num_classes: int) -> torch.Tensor:
        """Count the pixels of each class in the masks, int64 (num_classes,).

        Raises:
            DataError: if there are no masks.
        """
        if not self.has_masks:
            raise DataError("These images have no masks; read them with read_mask_datalist.")
        return torch.stack([torch.bincount(mask.flatten(), minlength=num_classes) for mask in self.masks]).sum(dim=0)

    def __getitem__(self, index: int) -> Item:
        index = range(len(self))[index]
        item = self.data[index]
        pair = {"image": self.images[index]} | ({"mask": self.masks[index]} if self.has_masks else {})
        return {
            **(pair if self.augment is None else self._augmented(pair, index)),
            "index": index,
            "id": item["id"],
            "case": self.cases[index],
            "split": item["split"] or "",
            "domain": item["domain"],
        }

    def _augmented(self, pair: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
        values = {"image": pair["image"].float() / 255}
        if "mask" in pair:
            values["mask"] = pair["mask"][None]
        moved = call_seeded(self.augment, values, (self.seed, int(self._epoch), index))  # type: ignore[arg-type]
        result = {"image": moved["image"].as_subclass(torch.Tensor)}
        return result | ({"mask": moved["mask"].as_subclass(torch.Tensor)[0]} if "mask" in moved else {})

    def _keep(self, masks: torch.Tensor, outcomes: Sequence[Decoded]) -> None:
        check_swapped(outcomes)
        self.masks = masks
        self.geometry = [{key: one.record[key] for key in _FACTS if key in one.record} for one in outcomes]
        self._native = [one.native_mask for one in outcomes]
        self.cases = [
            str(item.get("case", item["id"]) if "slice_axis" in facts else item["id"])
            for item, facts in zip(self.data, self.geometry, strict=True)
        ]

    def _subset(
        self, chosen: Sequence[int], augment: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> SegmentationDataset:
        result = super()._subset(chosen, augment)
        if not isinstance(result, SegmentationDataset):
            raise TypeError(f"expected a SegmentationDataset, got {type(result).__name__}.")
        result.masks = self.masks[rows_of(chosen)] if self.has_masks else self.masks
        for name in ("cases", "geometry", "_native"):
            setattr(result, name, [getattr(self, name)[index] for index in chosen])
        return result
