"""Collect the predictions of an evaluation, batch by batch, from all processes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from monai.utils import evenly_divisible_all_gather, string_list_all_gather

from movl_monai.errors import MovlError
from movl_monai.evaluation.columns import column, label_column, logits_column
from movl_monai.metrics.checks import check_finite, refuse_probabilities
from movl_monai.metrics.stored.predictions import Predictions

__all__ = ["PredictionCollector"]

_TEXTS = ("split", "domain", "patient_id")


class PredictionCollector:
    """Collects the predictions and columns of an evaluator's batches and outputs.

    Args:
        num_classes: expected number of logits.
        domain: domain of images whose batch has none.
    """

    def __init__(self, *, num_classes: int, domain: str = "id") -> None:
        self.num_classes = num_classes
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
        self._columns["label"] += [-1] * len(ids) if labels is None else labels
        # without a position the id identifies the image
        self._columns["index"] += column(batch, "index") or ids
        defaults = {"domain": self.domain}
        for name in _TEXTS:
            values = column(batch, name) or [None] * len(ids)
            self._columns[name] += [str(value) if value else defaults.get(name, "") for value in values]

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
