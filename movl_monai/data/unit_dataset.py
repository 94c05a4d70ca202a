"""Data set of units: all instances are decoded once, and an item is a series, study or patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from movl_monai.data.datalist import Datalist, Item
from movl_monai.data.dataset import FileOutcome, ImageDataset, rows_of
from movl_monai.data.decode import ItemTransform
from movl_monai.data.targets import label_tensor
from movl_monai.data.units import Units, unit_label
from movl_monai.errors import ConfigError, DataError

__all__ = ["UnitDataset", "decode_images"]

Augment = Callable[[torch.Tensor], torch.Tensor]


class UnitDataset(ImageDataset):
    """Decode the instances of a list of units, and group them.

    An item is ``{"image": uint8 (n, 3, H, W), "label": int, "index": int, "id": str, "split": str, "domain": str}``.
    With ``with_images`` False, as for training on cached features, ``image`` is empty, (0,), so that units of different
    sizes make a batch. Units without a readable instance have no item; :attr:`files` says why.

    Attributes:
        images: uint8 (N, 3, H, W), the instances, of one unit after the other.
        instances: item of each instance.
        data: one item per unit: its salted ``id``, ``label``, ``split``, ``domain``, ``patient_id``, ``groups`` (of the
            first instance), and ``members``, id and frame of each instance.
        ranges: rows of each unit in ``images``.
        labels, pixels, files, duplicates: as in :class:`ImageDataset`; ``labels`` of the units, the others of images.

    Args:
        data: a list that was read with ``units``.
        transform: see :class:`ImageDataset`.
        options: of :class:`ImageDataset`; ``augment`` is refused.

    Raises:
        ConfigError: if the list has no units, or for augmentations.
        DataError: as :class:`ImageDataset`.
    """

    ranges: list[range]
    units: Units

    def __init__(self, data: Datalist, transform: ItemTransform, **options: Any) -> None:
        if data.units is None:
            raise ConfigError("A UnitDataset needs a list of units; read it with `units`, or take an ImageDataset.")
        _refuse(options.get("augment"))
        self.units = data.units
        self.with_images = True
        self._instances: list[Item] = []
        first: dict[str, int] = {}
        for place, item in enumerate(data):
            first.setdefault(item["unit"], place)
        ordered = sorted(data, key=lambda item: (first[item["unit"]], item["instance"]))
        listed = data.part(ordered)
        listed.skipped, listed.wanted, listed.whole = data.skipped, data.wanted, data.whole
        super().__init__(listed, transform, **options)
        self._group(self.data)

    @property
    def instances(self) -> list[Item]:
        """Item of each instance."""
        return self._instances or self.data  # before they are grouped

    def __getitem__(self, index: int) -> Item:
        index = range(len(self))[index]
        item = super().__getitem__(index)
        rows = self.ranges[index]
        return item | {"image": self.images[rows.start : rows.stop] if self.with_images else self.images.new_empty(0)}

    def without_images(self) -> UnitDataset:
        """Return the same data set with items that hold no images, for training on cached features."""
        result = self._with(self.images, self._instances, self.pixels)
        result.with_images = False
        return result

    def outcomes(self) -> list[FileOutcome]:
        """Return the outcome of each unit, in the order of the list, then of each skipped file.

        A unit is readable if one of its instances is; else it has the reason of its first. Its record has the numbers
        of ``instances`` and of ``unreadable`` ones.
        """
        units: dict[str, list[FileOutcome]] = defaultdict(list)
        for file in self.files:
            if not file.skipped:
                units[file.case].append(file)
        found = []
        for unit, files in units.items():
            lost = sum(bool(file.reason) for file in files)
            record = {"instances": len(files) - lost, **({"unreadable": lost} if lost else {})}
            shown = files[0] if lost == len(files) else replace(files[0], reason="", detail="")
            found.append(replace(shown, id=unit, frame=None, record=record))
        return found + [file for file in self.files if file.skipped]

    def _subset(self, chosen: Sequence[int], augment: Augment | None) -> UnitDataset:
        _refuse(augment)
        rows = [row for index in chosen for row in self.ranges[index]]
        result = self._with(
            self.images[rows_of(rows)], [self._instances[row] for row in rows], [self.pixels[row] for row in rows]
        )
        result.with_images = self.with_images
        return result

    def _with(
        self, images: torch.Tensor, data: list[Item], pixels: list[str], augment: Augment | None = None
    ) -> UnitDataset:
        _refuse(augment)
        result = super()._with(images, data, pixels)
        if not isinstance(result, UnitDataset):
            raise TypeError(f"expected a UnitDataset, got {type(result).__name__}.")
        result._group(data)
        return result

    def _group(self, instances: list[Item]) -> None:
        """Replace the items of instances by those of their units."""
        self._instances = instances
        counts = Counter(item["unit"] for item in instances)
        order = list(counts)
        if [item["unit"] for item in instances] != [unit for unit in order for _ in range(counts[unit])]:
            raise DataError("The instances of a unit must follow each other; give each data set once.")
        self.ranges, self.data, start = [], [], 0
        for unit in order:
            rows = range(start, start + counts[unit])
            self.ranges.append(rows)
            self.data.append(_unit_item([instances[row] for row in rows]))
            start = rows.stop
        self.labels = label_tensor(self.data, self.task, self.class_names)


def _unit_item(instances: Sequence[Item]) -> Item:
    first = instances[0]
    item = {name: first[name] for name in ("patient_id", "split", "domain")}
    shows = {"shows_names": True} if any(one.get("shows_names") for one in instances) else {}
    groups = {"groups": first["groups"]} if first.get("groups") else {}
    label = unit_label(one["label"] for one in instances)
    members = [(one["id"], one.get("frame")) for one in instances]
    return {"id": first["unit"], "label": label, **item, **groups, **shows, "members": members}


def _refuse(augment: Any) -> None:
    if augment:
        raise ConfigError(
            "Series, studies and patients are trained on cached features of their images, which augmentations would "
            "change in every step; leave the overlay `augment` out."
        )


def decode_images(data: Datalist, transform: ItemTransform, **options: Any) -> ImageDataset:
    """Decode a list: an :class:`ImageDataset`, or a :class:`UnitDataset` if it was read with ``units``.

    Args:
        data: the list.
        transform: see :class:`ImageDataset`.
        options: of :class:`ImageDataset`.
    """
    return (ImageDataset if data.units is None else UnitDataset)(data, transform, **options)
