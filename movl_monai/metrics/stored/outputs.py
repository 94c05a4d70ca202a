"""Stored outputs of an evaluation: logits, features and facts of every image, so that reports need no second run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.errors import MovlError
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.metrics.classification_metrics import NonFiniteLogitsError
from movl_monai.metrics.stored.predictions import Predictions

__all__ = ["OUTPUTS_FILE", "OUTPUTS_SCHEMA_VERSION", "StoredOutputs", "find_outputs", "read_outputs", "write_outputs"]

OUTPUTS_FILE = "outputs.npz"
OUTPUTS_SCHEMA_VERSION = 1

_AGAIN = "Evaluate the run again (`movl-monai evaluate RUN --dataset_dir DIR`) with this version of movl_monai."
_HELD_BACK = ("train", "val", "calibration")


@dataclass(frozen=True, kw_only=True)
class StoredOutputs:
    """Outputs of a network on N images of all splits and domains.

    Args:
        predictions: logits, labels, splits, domains and patients of the images.
        class_names: the C names in the order of the logits.
        features: input of the head, float32 (N, F); F is 0 without features.
        groups: value of each image for each group (a column of the manifest such as sex), "" if missing.
        id_domain: the in-distribution domain.
        far_domains: domains of images of another kind, without labels: for OOD detection only.
        facts: further contents of a report as JSON-able data: ``run`` (see :func:`~movl_monai.evaluation.run_info`),
            ``options`` (see :class:`~movl_monai.evaluation.ReportOptions`), ``bundle``.
        task: name of the task.

    Raises:
        ValueError: if the lengths do not match.

    Example:
        >>> predictions = Predictions(ids=["0a", "0b"], logits=[[2.0, 1.0], [0.0, 1.0]], splits=["val", "test"])
        >>> outputs = StoredOutputs(predictions=predictions, class_names=["no", "yes"])
        >>> {name: len(part) for name, part in outputs.sections().items()}
        {'id': 1, 'val': 1}
    """

    predictions: Predictions
    class_names: Sequence[str]
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    id_domain: str = "id"
    far_domains: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    task: str = "classification"

    def __post_init__(self) -> None:
        count, num_classes = self.predictions.logits.shape
        features = self.features if self.features.size else np.empty((count, 0))
        groups = {str(name): [str(value) for value in values] for name, values in self.groups.items()}
        settled: dict[str, Any] = {"features": np.asarray(features, dtype=np.float32), "groups": groups}
        settled["class_names"] = [str(name) for name in self.class_names]
        settled["far_domains"] = [str(name) for name in self.far_domains]
        for name, value in settled.items():
            object.__setattr__(self, name, value)  # a frozen dataclass can only set its fields in this way
        if settled["features"].ndim != 2 or len(settled["features"]) != count:
            raise ValueError(f"features must be ({count}, F), a row per image, got {settled['features'].shape}.")
        if len(self.class_names) != num_classes:
            raise ValueError(f"Expected {num_classes} class names for as many logits, got {len(self.class_names)}.")
        wrong = {name: len(values) for name, values in groups.items() if len(values) != count}
        if wrong:
            raise ValueError(f"Every group must have a value for each of the {count} images, got {wrong}.")

    def __len__(self) -> int:
        return len(self.predictions)

    @property
    def has_features(self) -> bool:
        """True if the features are known."""
        return self.features.shape[1] > 0

    def take(self, rows: Sequence[int] | np.ndarray) -> StoredOutputs:
        """Return the given rows in the given order."""
        index = np.asarray(rows, dtype=np.int64)
        return StoredOutputs(
            predictions=self.predictions.take(index),
            class_names=self.class_names,
            features=self.features[index],
            groups={name: [values[row] for row in index] for name, values in self.groups.items()},
            id_domain=self.id_domain,
            far_domains=self.far_domains,
            facts=self.facts,
            task=self.task,
        )

    def labeled(self) -> StoredOutputs:
        """Return the images with a label."""
        return self.take(self.predictions.labeled_rows())

    def sections(self) -> dict[str, StoredOutputs]:
        """Return the non-empty sections of a report by name.

        ``id``: in-distribution test images (all except train, val and calibration); ``ood:<domain>``: another domain;
        ``val``, ``calibration``, ``train``: splits of the in-distribution domain; ``far:<domain>``: a far domain.
        """
        rows: dict[str, list[int]] = {}
        for row, place in enumerate(zip(self.predictions.domains, self.predictions.splits, strict=True)):
            rows.setdefault(self._section_of(*place), []).append(row)
        near, far = (sorted(name for name in rows if name.startswith(kind)) for kind in ("ood:", "far:"))
        names = ["id", *near, "val", "calibration", "train", *far]
        return {name: self.take(rows[name]) for name in names if name in rows}

    def _section_of(self, domain: str, split: str) -> str:
        if domain != self.id_domain:
            return f"far:{domain}" if domain in self.far_domains else f"ood:{domain}"
        return split if split in _HELD_BACK else "id"


def write_outputs(path: str | os.PathLike[str], outputs: StoredOutputs) -> None:
    """Write the file of :func:`read_outputs` atomically.

    An archive of NumPy arrays without pickled objects: ``logits`` float64 (N, C), ``features`` float32 (N, F),
    ``labels`` int64 (N,), -1 for none (float64 of findings (N, C) and of a regression (N,), NaN for none), the texts
    ``ids``, ``splits``, ``domains``, ``patients`` (N,) ("" if unknown), ``group_names`` (G,), ``group_values`` (N, G),
    ``class_names``, ``id_domain``, ``far_domains``, ``facts`` (JSON), ``schema_version``, ``task``. Patients are
    salted; without a salted id they are numbered, so that the file holds no patient names.

    Raises:
        MovlError: if it cannot be written.
    """
    predictions = outputs.predictions
    arrays: dict[str, np.ndarray] = {
        "schema_version": np.array(OUTPUTS_SCHEMA_VERSION),
        "logits": predictions.logits,
        "features": outputs.features,
        "labels": predictions.labels,
        "ids": _texts(predictions.ids),
        "splits": _texts(predictions.splits),
        "domains": _texts(predictions.domains),
        "patients": _texts(_salted_patients(predictions)),
        "group_names": _texts(list(outputs.groups)),
        "group_values": _texts(list(outputs.groups.values())).reshape(len(outputs.groups), len(outputs)).T,
        "class_names": _texts(outputs.class_names),
        "id_domain": np.array(outputs.id_domain),
        "far_domains": _texts(outputs.far_domains),
        "facts": np.array(to_json(jsonable(dict(outputs.facts)))),
        "task": np.array(outputs.task),
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    write_atomically(path, stream.getvalue())


def read_outputs(path: str | os.PathLike[str]) -> StoredOutputs:
    """Read the stored outputs of an evaluation.

    Args:
        path: ``outputs.npz``, the folder of an evaluation that holds it, or the folder of a run.

    Returns:
        outputs with bitwise equal logits; the salted ids serve as patients.

    Raises:
        MovlError: if the file is missing, damaged, or of another schema version.
        NonFiniteLogitsError: if a logit in it is NaN or infinite.
    """
    source = find_outputs(path)
    try:
        with source.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        version = int(arrays["schema_version"])
        if version == OUTPUTS_SCHEMA_VERSION:
            return _from_arrays(arrays)
    except NonFiniteLogitsError:  # its own message is more specific
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MovlError(
            f"{source.name} cannot be read as the outputs of an evaluation: {type(error).__name__}. {_AGAIN}"
        ) from error
    raise MovlError(
        f"{source.name} has schema version {version}, this movl_monai reads {OUTPUTS_SCHEMA_VERSION}. {_AGAIN}"
    )


def find_outputs(path: str | os.PathLike[str]) -> Path:
    """Return the stored outputs at a path: the file itself, or the one in the folder of an evaluation or run.

    Raises:
        MovlError: if there is none.
    """
    given = Path(path)
    for candidate in (given, given / OUTPUTS_FILE, given / "evaluation" / OUTPUTS_FILE):
        if candidate.is_file():
            return candidate
    raise MovlError(
        f"There are no stored outputs in {given.name!r}: expected {OUTPUTS_FILE}, or a folder with it or with "
        f"evaluation/{OUTPUTS_FILE}. {_AGAIN}"
    )


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> StoredOutputs:
    patients = [str(patient) or None for patient in arrays["patients"]]
    predictions = Predictions(
        ids=arrays["ids"].tolist(),
        logits=arrays["logits"],
        labels=arrays["labels"],
        splits=arrays["splits"].tolist(),
        domains=arrays["domains"].tolist(),
        patients=patients,
        patient_ids=patients,
    )
    names = arrays["group_names"].tolist()
    return StoredOutputs(
        predictions=predictions,
        class_names=arrays["class_names"].tolist(),
        features=arrays["features"],
        groups=dict(zip(names, arrays["group_values"].T.tolist(), strict=True)),
        id_domain=str(arrays["id_domain"]),
        far_domains=arrays["far_domains"].tolist(),
        facts=json.loads(str(arrays["facts"])),
        task=str(arrays.get("task", "classification")),  # of older versions
    )


def _salted_patients(predictions: Predictions) -> list[str]:
    """Return the salted patient of each image, else a number; "" if unknown."""
    numbers: dict[str, str] = {}
    return [
        salted or ("" if patient is None else numbers.setdefault(patient, f"patient {len(numbers) + 1}"))
        for salted, patient in zip(predictions.patient_ids, predictions.patients, strict=True)
    ]


def _texts(values: Sequence[Any]) -> np.ndarray:
    # an empty list would become an array of numbers
    return np.array(values, dtype=np.str_) if len(values) else np.empty(0, dtype="<U1")
