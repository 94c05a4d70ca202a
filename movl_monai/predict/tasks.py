"""Turn decoded images into rows: classification of images, segmentation of images and volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from movl_monai.data.decode import Decoded, fault_of
from movl_monai.evaluation.collect import largest_components, pixel_classes
from movl_monai.evaluation.mask_files import flags_of, mask_amounts, voxel_spacing, voxel_volumes
from movl_monai.evaluation.rows import OK, failed_row, image_rows
from movl_monai.metrics.checks import NonFiniteLogitsError
from movl_monai.predict.compute import Computer
from movl_monai.predict.loader import Item, Unit
from movl_monai.predict.model import Model
from movl_monai.report.tasks import task_named

__all__ = ["ClassifiedImages", "Sink", "SegmentedCase", "SegmentedImages", "worker_for"]

_FACTS = ("format", "modality")


class Sink(Protocol):
    """Receives finished images and cases, to write outputs other than tables."""

    def classified(self, item: Item, row: dict[str, Any]) -> dict[str, Any]:
        """Receive an image, and return its row."""

    def segmented(self, case: SegmentedCase, row: dict[str, Any]) -> dict[str, Any]:
        """Receive a case, and return its row."""


class ClassifiedImages:
    """Classify the images of a unit.

    Args:
        model: model that predicts.
        computer: runs the model.
        sink: receives each image.
    """

    def __init__(self, model: Model, computer: Computer, sink: Sink) -> None:
        self.model, self.computer, self.sink = model, computer, sink
        self._rows: list[dict[str, Any]] = []

    def add(self, items: Sequence[Item], decoded: Sequence[Decoded]) -> None:
        """Classify a batch."""
        readable = [number for number, one in enumerate(decoded) if one.image is not None]
        rows = {
            number: failed_row(items[number]["id"], one.reason, one.detail)
            for number, one in enumerate(decoded)
            if one.image is None
        }
        done = self._classify([items[number] for number in readable], [decoded[number] for number in readable])
        for number, row in zip(readable, done, strict=True):
            rows[number] = self.sink.classified(items[number], row) if row["status"] == OK else row
        self._rows += [rows[number] for number in range(len(items))]

    def _classify(self, items: Sequence[Item], decoded: Sequence[Decoded]) -> list[dict[str, Any]]:
        """Return the rows of a batch; if the batch fails, compute its images one by one."""
        if not items:
            return []
        try:
            logits, features = self.computer(_stacked(decoded))
            return image_rows(
                [item["id"] for item in items],
                [one.record for one in decoded],
                logits.cpu().numpy(),
                features,
                class_names=self.model.class_names,
                trust=self.model.trust,
                task=task_named(self.model.task),
            )
        except Exception as error:
            fault = _fault_of(error)
            if len(items) == 1:
                return [failed_row(items[0]["id"], *fault)]
            pairs = zip(items, decoded, strict=True)
            return [row for item, one in pairs for row in self._classify([item], [one])]

    def finish(self, unit: Unit) -> list[dict[str, Any]]:
        """Return the rows of the unit, and clear them for the next one."""
        rows, self._rows = self._rows, []
        return rows


class SegmentedCase:
    """Predicted classes of one image or volume.

    Args:
        id: id of the case.
        items: its images, in the order of the slices.
        planes: uint8 (rows, columns), the class of every pixel; one per item.
        records: technical facts of each image.
    """

    def __init__(
        self, id: str, items: Sequence[Item], planes: Sequence[np.ndarray], records: Sequence[Mapping[str, Any]]
    ) -> None:
        self.id, self.items, self.planes, self.records = id, list(items), list(planes), list(records)
        self.record = dict(self.records[0])

    @property
    def is_volume(self) -> bool:
        """Return whether the images are slices of a volume with a place in the patient."""
        return "slice_axis" in self.record

    @property
    def classes(self) -> np.ndarray:
        """Return the classes (rows, columns) of an image, else (rows, columns, slices)."""
        if len(self.planes) == 1 and not self.is_volume:
            return self.planes[0]
        return np.stack(self.planes, axis=-1)

    def amounts(self, class_names: Sequence[str]) -> dict[str, float]:
        """Return pixels per class, and area or volume if the spacing is known; frames of a film have neither."""
        classes = self.classes
        spacing = voxel_spacing(self.record, 2) if classes.ndim == 2 else None
        volumes = voxel_volumes(self.records) if self.is_volume else None
        return mask_amounts(classes, class_names, spacing=spacing, voxel_mm3=volumes)


class SegmentedImages:
    """Segment the images or the volume of a unit.

    Args:
        model: model that predicts.
        computer: runs the model.
        sink: receives each case.
    """

    def __init__(self, model: Model, computer: Computer, sink: Sink) -> None:
        self.model, self.computer, self.sink = model, computer, sink
        self._items: list[Item] = []
        self._planes: list[np.ndarray | None] = []
        self._decoded: list[Decoded] = []

    def add(self, items: Sequence[Item], decoded: Sequence[Decoded]) -> None:
        """Segment a batch."""
        found = iter(self._segment([one for one in decoded if one.image is not None]))
        self._items += items
        self._planes += [None if one.image is None else next(found) for one in decoded]
        for one in decoded:
            one.image = None
        self._decoded += decoded

    def finish(self, unit: Unit) -> list[dict[str, Any]]:
        """Return a row for each case of the unit, and clear them for the next one."""
        parts = [slice(None)] if unit.is_volume else [slice(number, number + 1) for number in range(len(self._items))]
        rows = [self._row_or_fault(self._items[part], self._planes[part], self._decoded[part]) for part in parts]
        self._items, self._planes, self._decoded = [], [], []
        return rows

    def _segment(self, decoded: Sequence[Decoded]) -> list[np.ndarray | None]:
        """Return the classes of the pixels of a batch; if the batch fails, compute its images one by one."""
        if not decoded:
            return []
        try:
            logits = self.computer(_stacked(decoded))[0]
            mode = self.model.resize_mode
            pairs = zip(logits, decoded, strict=True)
            return [pixel_classes(one, part.record, resize_mode=mode) for one, part in pairs]
        except Exception as error:
            fault = _fault_of(error)
            if len(decoded) > 1:
                return [plane for one in decoded for plane in self._segment([one])]
            decoded[0].reason, decoded[0].detail = fault
            return [None]

    def _row_or_fault(
        self, items: Sequence[Item], planes: Sequence[np.ndarray | None], decoded: Sequence[Decoded]
    ) -> dict[str, Any]:
        try:
            return self._row(items, planes, decoded)
        except Exception as error:
            return failed_row(items[0]["case"], *_fault_of(error))

    def _row(
        self, items: Sequence[Item], planes: Sequence[np.ndarray | None], decoded: Sequence[Decoded]
    ) -> dict[str, Any]:
        case_id = items[0]["case"]
        if failed := next((one for one in decoded if one.reason), None):
            return failed_row(case_id, failed.reason, failed.detail)
        records = [one.record for one in decoded]
        case = SegmentedCase(case_id, items, [plane for plane in planes if plane is not None], records)
        if self.model.largest_component:
            kept = largest_components(case.classes)
            case.planes = [kept] if kept.ndim == 2 else list(np.moveaxis(kept, -1, 0))
        row = {
            "id": case_id,
            "status": OK,
            "reason": "",
            **{name: case.record[name] for name in _FACTS if case.record.get(name)},
            "images": len(items),
            **({"flags": flags} if (flags := flags_of(records)) else {}),
            **case.amounts(self.model.class_names),
        }
        return self.sink.segmented(case, row)


def worker_for(model: Model, computer: Computer, sink: Sink) -> ClassifiedImages | SegmentedImages:
    """Return the object that turns units into rows for the model's task."""
    return (SegmentedImages if model.per_pixel else ClassifiedImages)(model, computer, sink)


def _fault_of(error: Exception) -> tuple[str, str]:
    """Return reason and detail (:func:`~movl_monai.data.decode.fault_of`); non-finite logits have their own reason."""
    return ("not_finite_logits", "") if isinstance(error, NonFiniteLogitsError) else fault_of(error)


def _stacked(decoded: Sequence[Decoded]) -> torch.Tensor:
    return torch.from_numpy(np.stack([one.image for one in decoded if one.image is not None]))
