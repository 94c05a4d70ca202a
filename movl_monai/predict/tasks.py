"""Run a network on batches, and turn its outputs into rows for images and volumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from movl_monai.data.decode import Decoded, fault_of
from movl_monai.errors import ConfigError, MovlError
from movl_monai.evaluation.collect import largest_components, pixel_classes
from movl_monai.evaluation.mask_files import case_amounts
from movl_monai.evaluation.rows import OK, case_row, failed_row, image_rows
from movl_monai.metrics.classification_metrics import NonFiniteLogitsError, check_finite
from movl_monai.predict.loader import Item, Unit
from movl_monai.predict.model import Model, UnitOutput
from movl_monai.report.tasks import task_named

__all__ = [
    "ClassifiedImages",
    "ClassifiedUnits",
    "Computer",
    "SegmentedCase",
    "SegmentedImages",
    "Sink",
    "choose_batch_size",
    "worker_for",
]

_LOGGER = logging.getLogger(__name__)

_MOST_ON_CPU, _MOST_ON_CUDA = 32, 128
_SHARE_OF_MEMORY = 0.25
_BYTES_PER_VALUE = 600  # of activations per pixel; an estimate for models without a module to measure


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


class ClassifiedUnits:
    """Classify a series, study or patient from its images.

    An image that cannot be read is left out, and counted in the row.

    Args:
        model: model for units.
        computer: for images; its model runs the unit.
        sink: receives the first key image of each unit, with the row of the unit.
    """

    def __init__(self, model: Model, computer: Computer, sink: Sink) -> None:
        self.model, self.computer, self.sink = model, computer, sink
        self._items: list[Item] = []
        self._decoded: list[Decoded] = []

    def add(self, items: Sequence[Item], decoded: Sequence[Decoded]) -> None:
        """Add some images of the unit."""
        self._items += items
        self._decoded += decoded

    def finish(self, unit: Unit) -> list[dict[str, Any]]:
        """Return the row of the unit, and clear its images for the next one."""
        items, decoded = self._items, self._decoded
        self._items, self._decoded = [], []
        name = items[0]["unit"]
        readable = [number for number, one in enumerate(decoded) if one.image is not None]
        if not readable:
            return [failed_row(name, decoded[0].reason, decoded[0].detail)]
        try:
            row, keys = self._row(name, [decoded[number] for number in readable], lost=len(items) - len(readable))
        except Exception as error:
            return [failed_row(name, *_fault_of(error))]
        row["key_images"] = [items[readable[number]]["id"] for number in keys]
        return [self.sink.classified(items[readable[keys[0]]], row)]

    def _row(self, name: str, decoded: Sequence[Decoded], *, lost: int) -> tuple[dict[str, Any], list[int]]:
        found = self.computer.unit(_stacked(decoded))
        # the size and frame of one image say nothing of the others
        record: dict[str, Any] = {
            key: decoded[0].record[key] for key in ("format", "modality") if key in decoded[0].record
        }
        record |= {"instances": len(decoded), **({"unreadable": lost} if lost else {})}
        (row,) = image_rows(
            [name],
            [record],
            found.logits,
            found.features,
            class_names=self.model.class_names,
            trust=self.model.trust,
            task=task_named(self.model.task),
        )
        return row, found.key_images()


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
        """Return the amount of each class, see :func:`~movl_monai.evaluation.mask_files.case_amounts`."""
        return case_amounts(self.classes, self.records, class_names)


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
        return self.sink.segmented(case, case_row(case_id, case.classes, records, self.model.class_names))


def worker_for(model: Model, computer: Computer, sink: Sink) -> ClassifiedImages | ClassifiedUnits | SegmentedImages:
    """Return the object that turns units into rows for the model's task."""
    if model.units is not None:
        return ClassifiedUnits(model, computer, sink)
    return (SegmentedImages if model.per_pixel else ClassifiedImages)(model, computer, sink)


def _fault_of(error: Exception) -> tuple[str, str]:
    """Return reason and detail (:func:`~movl_monai.data.decode.fault_of`); non-finite logits have their own reason."""
    return ("not_finite_logits", "") if isinstance(error, NonFiniteLogitsError) else fault_of(error)


def _stacked(decoded: Sequence[Decoded]) -> torch.Tensor:
    return torch.from_numpy(np.stack([one.image for one in decoded if one.image is not None]))


class Computer:
    """Compute logits and features of batches.

    If a batch does not fit into memory, this batch and all later ones are computed in halves.

    Args:
        model: model to run.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.most: int | None = None

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Compute a batch.

        Args:
            images: uint8 (B, 3, H, W).

        Returns:
            logits (B, C) or (B, C, H, W), float32 on the device; features (B, F), or None.

        Raises:
            MovlError: if not even one image fits into memory.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        while True:
            try:
                logits, features = self._in_parts(images)
                break
            except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.most = self._half(min(self.most or len(images), len(images)))
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
        if not bool(torch.isfinite(logits).all()):
            check_finite(logits.cpu().numpy())
        return logits, features

    def unit(self, images: torch.Tensor) -> UnitOutput:
        """Compute a series, study or patient from its images, uint8 (n, 3, H, W).

        Raises:
            ConfigError: if the model is for single images.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        if self.model.unit_forward is None:
            raise ConfigError("The model is for single images, expected one for series, studies or patients.")
        found = self.model.unit_forward(images)
        check_finite(found.logits)
        return found

    def _in_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        parts = [self.model.forward(part) for part in images.split(self.most or len(images))]
        features = [part[1] for part in parts if part[1] is not None]
        logits = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts])
        return logits, np.concatenate(features) if features else None

    def _half(self, size: int) -> int:
        if size <= 1:
            raise MovlError(
                "Not even one image fits into the memory of the device; close other programs, choose another --device, "
                "or a model with smaller images."
            )
        _LOGGER.warning("A batch of %d images does not fit into memory; going on with %d.", size, size // 2)
        return size // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of memory: from CUDA, the CPU allocator, or Python itself."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def choose_batch_size(model: Model, image_size: tuple[int, int]) -> int:
    """Choose the batch size: the largest power of two that fits into a quarter of the free memory.

    It is at most 32 on a CPU and 128 on a GPU. The memory per image is measured with images of zeros. On a CPU without
    a module to measure, it is estimated.

    Args:
        model: model to run.
        image_size: (H, W) after preprocessing, in pixels.
    """
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        return _power_of_two(free * _SHARE_OF_MEMORY / _cuda_bytes(model, image_size), _MOST_ON_CUDA)
    import psutil

    free = psutil.virtual_memory().available
    return _power_of_two(free * _SHARE_OF_MEMORY / _cpu_bytes(model, image_size), _MOST_ON_CPU)


def _power_of_two(most: float, limit: int) -> int:
    size = 1
    while size * 2 <= min(most, limit):
        size *= 2
    return size


def _cuda_bytes(model: Model, image_size: tuple[int, int]) -> float:
    images = torch.zeros(2, 3, *image_size, dtype=torch.uint8)
    model.forward(images)  # its first call allocates workspaces
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    model.forward(images)
    return max(1.0, (torch.cuda.max_memory_allocated(model.device) - before) / len(images))


def _cpu_bytes(model: Model, image_size: tuple[int, int]) -> float:
    """Sum the outputs of all leaf modules for one image, in bytes: an upper bound of the memory held at once."""
    if model.network is None:
        return float(3 * image_size[0] * image_size[1] * _BYTES_PER_VALUE)
    total = 0

    def count(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.element_size() * output.nelement() if isinstance(output, torch.Tensor) else 0

    leaves = [module for module in model.network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        model.forward(torch.zeros(1, 3, *image_size, dtype=torch.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    return float(max(1, total))
