"""Collect the predictions of an evaluation, batch by batch, from all processes: logits of images, figures of masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from monai.utils import evenly_divisible_all_gather, string_list_all_gather

from movl_monai.data.targets import labels_of
from movl_monai.errors import MovlError
from movl_monai.metrics.classification_metrics import check_finite, refuse_probabilities
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.transforms import resize_back

__all__ = [
    "CaseCollector",
    "PredictedCase",
    "PredictionCollector",
    "column",
    "label_column",
    "largest_components",
    "logits_and_labels",
    "logits_column",
    "pixel_classes",
]

_TEXTS = ("split", "domain", "patient_id")


def column(data: Any, key: str) -> list[Any] | None:
    """Return one value per image as Python objects, or None if the key is missing.

    Args:
        data: a collated dictionary, or a list of dictionaries as MONAI's engines make with ``decollate=True``.
        key: name of the column.

    Example:
        >>> column({"label": torch.tensor([1, 0])}, "label"), column([{"id": "a"}, {"id": "b"}], "id")
        ([1, 0], ['a', 'b'])
    """
    values = data.get(key) if isinstance(data, Mapping) else [item.get(key) for item in data]
    if values is None or (isinstance(values, list) and all(value is None for value in values)):
        return None
    if isinstance(values, torch.Tensor):
        return list(values.detach().cpu().tolist())
    return [value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value for value in values]


def logits_column(output: Any, key: str = "pred") -> torch.Tensor:
    """Return the logits (B, C) of an engine's output, float32 or wider, on the CPU.

    Raises:
        MovlError: if there are none, or they are not one vector per image.
    """
    logits = _logits(output, key, shape="(B, C)", network="classifier").cpu()
    return logits if logits.dtype == torch.float64 else logits.float()


def label_column(data: Any) -> list[Any] | None:
    """Return one label per image, -1 for an image without one; None if no image has one.

    A class is an integer, several findings are a list of floats, the number of a regression is a float.
    """
    values = column(data, "label")
    if values is None:
        return None
    return [value.tolist() if isinstance(value, torch.Tensor) else -1 if value is None else value for value in values]


def logits_and_labels(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, C) logits and (B,) or (B, K) labels of a supervised engine's output; a pair is returned unchanged.

    It is the default ``output_transform`` of the metrics for validation.
    """
    if isinstance(output, tuple) and len(output) == 2:
        return output
    labels = label_column(output)
    if labels is None:
        raise MovlError("The engine's output has no 'label'; this metric needs labeled images.")
    return logits_column(output), torch.tensor(labels)


class PredictionCollector:
    """Collects the predictions and columns of an evaluator's batches and outputs.

    Args:
        num_classes: expected number of logits.
        domain: domain of images whose batch has none.
        task: name of the task, which says what a missing label is.
    """

    def __init__(self, *, num_classes: int, domain: str = "id", task: str = "classification") -> None:
        self.num_classes = num_classes
        self.task = task
        self.domain = domain
        self.reset()

    def reset(self) -> None:
        """Discard all collected predictions."""
        self._logits: list[torch.Tensor] = []
        self._features: list[torch.Tensor] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in ("id", "label", "index", *_TEXTS)}

    def add(self, batch: Any, output: Any, *, features: torch.Tensor | None = None) -> None:
        """Add one batch.

        Args:
            batch: dictionary of columns, or list of dictionaries, with ``id`` and, if known, ``label``, ``index``,
                ``split``, ``domain`` and ``patient_id``.
            output: output with ``pred``, the logits.
            features: input of the head, float32 (B, F); None if unknown.

        Raises:
            MovlError: if ids or logits are missing or do not match.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        logits, ids = logits_column(output), column(batch, "id")
        if ids is None or len(ids) != len(logits):
            got = "none" if ids is None else len(ids)
            raise MovlError(f"A batch must have one 'id' per image, got {got} for {len(logits)} predictions.")
        if logits.shape[1] != self.num_classes:
            raise MovlError(f"The network gives {logits.shape[1]} logits for {self.num_classes} class names.")
        check_finite(logits.numpy())
        self._logits.append(logits.double())
        self._features.append(torch.empty(len(logits), 0) if features is None else features)
        self._columns["id"] += [str(value) for value in ids]
        labels = label_column(batch)
        self._columns["label"] += self._missing(len(ids)) if labels is None else labels
        # without a position the id identifies the image
        self._columns["index"] += column(batch, "index") or ids
        defaults = {"domain": self.domain}
        for name in _TEXTS:
            values = column(batch, name) or [None] * len(ids)
            self._columns[name] += [str(value) if value else defaults.get(name, "") for value in values]

    def _missing(self, count: int) -> list[Any]:
        return [labels_of(self.task).unknown([""] * self.num_classes)] * count

    def gather(self, *, patients: Mapping[str, str | None] | None = None, salt: Any = None) -> Predictions:
        """Return the images of all processes, sorted by their positions in the data set, without duplicates.

        Args:
            patients: patient by image id, for batches without ``patient_id``.
            salt: object whose ``patient_id(patient)`` gives the salted id for the file; None writes no patients.

        Raises:
            MovlError: if there are no images, an image came twice in one process, or ``pred`` holds probabilities.
        """
        return self.gather_with_features(patients=patients, salt=salt)[0]

    def gather_with_features(
        self, *, patients: Mapping[str, str | None] | None = None, salt: Any = None
    ) -> tuple[Predictions, np.ndarray]:
        """Return the predictions of :meth:`gather`, and the features of these images, float32 (N, F)."""
        logits, features, columns = self._all_processes()
        refuse_probabilities(logits)
        rows = _first_rows(columns["index"], repeated=idist.get_world_size() > 1)
        given = zip(columns["patient_id"], columns["id"], strict=True)
        own = [value or (patients or {}).get(image) for value, image in given]
        salted = [None if patient is None or salt is None else salt.patient_id(patient) for patient in own]
        predictions = Predictions(
            ids=columns["id"],
            logits=logits,
            labels=columns["label"],
            splits=columns["split"],
            domains=columns["domain"],
            patients=own,
            patient_ids=salted,
        )
        return predictions.take(rows), features[rows]

    def _all_processes(self) -> tuple[np.ndarray, np.ndarray, dict[str, list[Any]]]:
        if not self._logits:
            raise MovlError("The evaluation saw no images; check the data set's splits and domains.")
        logits = evenly_divisible_all_gather(torch.cat(self._logits), concat=True).numpy()
        own = torch.cat(self._features)
        # without columns there is nothing to exchange
        features = evenly_divisible_all_gather(own, concat=True) if own.shape[1] else own.new_empty(len(logits), 0)
        # one text per process; JSON has no tabs, which separate the texts
        texts = string_list_all_gather([json.dumps(self._columns)])
        columns: dict[str, list[Any]] = {name: [] for name in self._columns}
        for text in texts:
            for name, values in json.loads(text).items():
                columns[name] += values
        return logits, features.numpy(), columns


def _first_rows(positions: Sequence[Any], *, repeated: bool) -> list[int]:
    """Return the rows sorted by position, without images that a distributed sampler repeats to fill batches."""
    first: dict[Any, int] = {}
    for row, position in enumerate(positions):
        first.setdefault(position, row)
    if len(first) < len(positions) and not repeated:
        raise MovlError(
            f"{len(positions) - len(first)} images were evaluated twice; expected each image of the data set once."
        )
    return [first[position] for position in sorted(first)]


@dataclass
class PredictedCase:
    """Predicted classes of the images of one case, uint8 (rows, columns), by position in the data set."""

    id: str
    planes: dict[int, np.ndarray] = field(default_factory=dict)

    def stacked(self, dataset: Any) -> tuple[list[int], np.ndarray]:
        """Return the positions in slice order, and the classes (rows, columns) or (rows, columns, slices)."""
        order = sorted(self.planes, key=lambda index: dataset.geometry[index].get("frame") or 0)
        planes = [self.planes[index] for index in order]
        is_volume = "slice_axis" in dataset.geometry[order[0]]
        return order, np.stack(planes, axis=-1) if is_volume else planes[0]


class CaseCollector:
    """Collects batches and yields each case as soon as it is complete, so that memory holds one volume at a time.

    Args:
        dataset: a :class:`~movl_monai.data.SegmentationDataset`.
        num_classes: expected number of logits.
        resize_mode: mode in which the images were resized.
        largest_component: keep only the largest connected component of each predicted class.
    """

    def __init__(
        self, dataset: Any, *, num_classes: int, resize_mode: str = "stretch", largest_component: bool = False
    ) -> None:
        self.dataset = dataset
        self.num_classes = num_classes
        self.resize_mode = resize_mode
        self.largest_component = largest_component
        self.reset()

    def reset(self) -> None:
        """Discard all collected cases."""
        self._open: dict[str, PredictedCase] = {}
        self._expected = Counter(self.dataset.cases)

    def add(self, batch: Any, output: Any) -> Iterator[PredictedCase]:
        """Add one batch.

        Args:
            batch: dictionary of columns, or list of dictionaries, with ``index``.
            output: output with ``pred``, logits (B, C, H, W).

        Yields:
            the cases that it completed.

        Raises:
            MovlError: if positions or logits are missing or do not match, or an image comes twice.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        positions = column(batch, "index")
        logits = _logits(output, "pred", shape="(B, C, H, W)", network="segmenter").float()
        if positions is None or len(positions) != len(logits):
            raise MovlError(f"A batch must have one 'index' per image, got {positions} for {len(logits)} predictions.")
        if logits.shape[1] != self.num_classes:
            raise MovlError(f"The network gives {logits.shape[1]} logits per pixel for {self.num_classes} class names.")
        check_finite(logits.cpu().numpy())
        for index, one in zip((int(position) for position in positions), logits, strict=True):
            name = self.dataset.cases[index]
            case = self._open.setdefault(name, PredictedCase(name))
            if index in case.planes or not self._expected[name]:
                raise MovlError("An image was evaluated twice; expected each image of the data set once.")
            case.planes[index] = pixel_classes(one, self.dataset.geometry[index], resize_mode=self.resize_mode)
            if len(case.planes) == self._expected[name]:
                del self._open[name], self._expected[name]
                yield self._finished(case)

    def check_complete(self) -> None:
        """Refuse to end with missing slices.

        Raises:
            MovlError: if slices are missing.
        """
        missing = sum(self._expected.values()) - sum(len(case.planes) for case in self._open.values())
        if missing:
            raise MovlError(f"{missing} images of the data set were not evaluated; expected each of them once.")

    def _finished(self, case: PredictedCase) -> PredictedCase:
        if self.largest_component:
            order, classes = case.stacked(self.dataset)
            kept = largest_components(classes)
            planes = [kept] if kept.ndim == 2 else list(np.moveaxis(kept, -1, 0))
            case.planes = dict(zip(order, planes, strict=True))
        return case


def pixel_classes(logits: torch.Tensor, record: Mapping[str, Any], *, resize_mode: str) -> np.ndarray:
    """Return the classes of the pixels of an image at its own size, uint8 (rows, columns).

    Args:
        logits: (C, H, W), of the resized image.
        record: technical facts of the image, with ``rows`` and ``columns``.
        resize_mode: mode in which the image was resized.
    """
    size = (int(record["rows"]), int(record["columns"]))
    return resize_back(logits.softmax(dim=0), size, mode=resize_mode).argmax(dim=0).to(torch.uint8).cpu().numpy()


def largest_components(classes: np.ndarray) -> np.ndarray:
    """Keep the largest connected component of every class but the background (MONAI's KeepLargestConnectedComponent).

    Args:
        classes: uint8 (rows, columns) or (rows, columns, slices).

    Example:
        >>> largest_components(np.array([[1, 1, 0, 1], [0, 0, 0, 0]], dtype=np.uint8))
        array([[1, 1, 0, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """
    from monai.transforms import KeepLargestConnectedComponent

    keep = KeepLargestConnectedComponent(is_onehot=False, independent=True)
    kept = keep(torch.from_numpy(np.ascontiguousarray(classes))[None])
    return torch.as_tensor(kept)[0].numpy().astype(np.uint8)


def _logits(output: Any, key: str, *, shape: str, network: str) -> torch.Tensor:
    """Return the logits of an engine's output, decollated or not."""
    if isinstance(output, Mapping):
        values = output.get(key)
    else:
        rows = [torch.as_tensor(item[key]) for item in output if key in item]
        values = torch.stack(rows) if rows else None
    if values is None:
        raise MovlError(f"The engine's output has no '{key}'; expected the logits {shape} there.")
    logits = torch.as_tensor(values).detach()
    if logits.ndim != shape.count(",") + 1:
        raise MovlError(f"'{key}' must be logits {shape}, got {tuple(logits.shape)}; a {network} is expected.")
    return logits
