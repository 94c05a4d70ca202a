"""Predictions of a network for images, and their table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.errors import MovlError
from movl_monai.metrics.classification_metrics import check_finite, most_probable, softmax

__all__ = ["Predictions", "Sections", "predictions_csv", "read_predictions", "sections"]

_PROBABILITY = "probability_"


class Predictions:
    """Logits and labels of N images, with the facts that the report needs about each image.

    Args:
        ids: salted ids, (N,).
        logits: (N, C), before softmax or a sigmoid for each finding, finite; (N, 1) of a regression.
        labels: integers (N,), -1 for an image without a label; of several findings floats (N, C) of 1 and 0, of a
            regression floats (N,), NaN if unknown; None if no image has a class.
        splits: "train", "val", "calibration", "test" or "" of each image; None means "" for all.
        domains: domain of each image; None means "id" for all.
        patients: identifier of each image's patient, for the resampling; never written. None if unknown.
        patient_ids: salted ids of the patients, for the file; None if unknown.

    Raises:
        ValueError: if the lengths differ or a label is not possible.
        NonFiniteLogitsError: if a logit is NaN or infinite.

    Example:
        >>> predictions = Predictions(ids=["0a", "0b"], logits=[[2.0, 1.0], [0.0, 1.0]], labels=[0, -1])
        >>> len(predictions.labeled()), predictions.splits
        (1, ['', ''])
    """

    def __init__(
        self,
        *,
        ids: Sequence[str],
        logits: ArrayLike,
        labels: ArrayLike | None = None,
        splits: Sequence[str] | None = None,
        domains: Sequence[str] | None = None,
        patients: Sequence[str | None] | None = None,
        patient_ids: Sequence[str | None] | None = None,
    ) -> None:
        self.logits = np.asarray(logits, dtype=np.float64)
        if self.logits.ndim != 2 or self.logits.shape[1] < 1:
            raise ValueError(f"logits must be (N, C), got {self.logits.shape}.")
        count, num_classes = self.logits.shape
        self.ids = list(ids)
        self.labels = np.full(count, -1) if labels is None else _labels(labels, num_classes)
        self.splits = [""] * count if splits is None else list(splits)
        self.domains = ["id"] * count if domains is None else list(domains)
        self.patients = [None] * count if patients is None else [patient or None for patient in patients]
        self.patient_ids = [None] * count if patient_ids is None else [patient or None for patient in patient_ids]
        names = ("ids", "labels", "splits", "domains", "patients", "patient_ids")
        wrong = {name: len(getattr(self, name)) for name in names if len(getattr(self, name)) != count}
        if wrong:
            raise ValueError(f"Every column must have {count} values, as there are logits, got {wrong}.")
        check_finite(self.logits)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> Predictions:
        """Return the given rows in the given order."""
        columns = ("ids", "splits", "domains", "patients", "patient_ids")
        chosen = {name: [getattr(self, name)[row] for row in rows] for name in columns}
        index = np.asarray(rows, dtype=np.int64)
        return Predictions(logits=self.logits[index], labels=self.labels[index], **chosen)

    def labeled(self) -> Predictions:
        """Return the images with a label, of several findings those with a label for at least one."""
        return self.take(self.labeled_rows())

    def labeled_rows(self) -> np.ndarray:
        """Return the rows of :meth:`labeled`."""
        known = ~np.isnan(self.labels) if self.labels.dtype.kind == "f" else self.labels >= 0
        return np.flatnonzero(known if known.ndim == 1 else known.any(axis=1))


def _labels(given: ArrayLike, num_classes: int) -> np.ndarray:
    """Return labels as int64 (N,), or float64 of findings (N, C) or a regression (N,).

    Raises:
        ValueError: for an impossible label.
    """
    labels = np.asarray(given)
    if labels.dtype.kind != "f":
        if labels.ndim == 1 and labels.size and (labels.min() < -1 or labels.max() >= num_classes):
            raise ValueError(f"labels must be -1 or in [0, {num_classes}), got {labels.min()} to {labels.max()}.")
        return labels.astype(np.int64)
    if labels.ndim == 2 and labels.size:
        known = labels[~np.isnan(labels)]
        if labels.shape[1] != num_classes or not np.isin(known, (0, 1)).all():
            raise ValueError(f"labels of findings must be 0, 1 or NaN, (N, {num_classes}), got {labels.shape}.")
    return labels.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Sections of a report: in-distribution test images, each other domain, and the other splits."""

    id: Predictions
    ood: dict[str, Predictions]
    val: Predictions
    calibration: Predictions
    train: Predictions
    far: dict[str, Predictions]


def sections(predictions: Predictions, *, id_domain: str = "id", far_domains: Sequence[str] = ()) -> Sections:
    """Sort images into the sections of a report.

    In-distribution images are test images unless their split is "train", "val" or "calibration". Images of other
    domains are always test images. Images of far domains are of another kind and enter no accuracy figure.
    """
    splits, domains = predictions.splits, predictions.domains

    def rows(domain: str, wanted: tuple[str, ...] | None, unwanted: tuple[str, ...] = ()) -> Predictions:
        chosen = [
            row
            for row, split in enumerate(splits)
            if domains[row] == domain and split not in unwanted and (wanted is None or split in wanted)
        ]
        return predictions.take(chosen)

    others = [name for name in dict.fromkeys(domains) if name != id_domain]
    return Sections(
        id=rows(id_domain, None, ("train", "val", "calibration")),
        ood={name: rows(name, None) for name in others if name not in far_domains},
        val=rows(id_domain, ("val",)),
        calibration=rows(id_domain, ("calibration",)),
        train=rows(id_domain, ("train",)),
        far={name: rows(name, None) for name in others if name in far_domains},
    )


def predictions_csv(
    predictions: Predictions,
    class_names: Sequence[str],
    *,
    decide: Callable[[np.ndarray], np.ndarray] = most_probable,
) -> str:
    """Return the CSV text of evaluated images, one row each; floats survive writing and reading unchanged.

    Columns: id, label, predicted, ``probability_<class>`` for each class, split, domain and the salted patient.
    """
    probabilities = softmax(predictions.logits)
    predicted = decide(predictions.logits)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    probability_names = [f"{_PROBABILITY}{name}" for name in class_names]
    writer.writerow(["id", "label", "predicted", *probability_names, "split", "domain", "patient"])
    for row, image_id in enumerate(predictions.ids):
        label = predictions.labels[row]
        numbers = [repr(float(value)) for value in probabilities[row]]
        tail = [column[row] or "" for column in (predictions.splits, predictions.domains, predictions.patient_ids)]
        writer.writerow(
            [image_id, class_names[label] if label >= 0 else "", class_names[predicted[row]], *numbers, *tail]
        )
    return stream.getvalue()


def read_predictions(path: str | os.PathLike[str]) -> tuple[Predictions, list[str]]:
    """Read a file of :func:`predictions_csv` back, with its class names.

    Logits are the logarithms of the probabilities, which give the same figures. The salted ids serve as patients.

    Raises:
        MovlError: if the file is missing or is not such a file.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = [key[len(_PROBABILITY) :] for key in (rows[0] if rows else {}) if key.startswith(_PROBABILITY)]
        probabilities = np.array([[float(row[_PROBABILITY + name]) for name in names] for row in rows])
        numbers = {name: index for index, name in enumerate(names)} | {"": -1}
        patients = [row.get("patient") or None for row in rows]
        predictions = Predictions(
            ids=[row["id"] for row in rows],
            logits=np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)),
            labels=[numbers[row.get("label", "")] for row in rows],
            splits=[row.get("split", "") for row in rows],
            domains=[row.get("domain", "id") for row in rows],
            patients=patients,
            patient_ids=patients,
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise MovlError(
            f"{Path(path).name} cannot be read as predictions: {type(error).__name__}. Expected the predictions.csv of "
            "an evaluation, with the columns id, label, predicted and probability_<class>."
        ) from error
    return predictions, names
