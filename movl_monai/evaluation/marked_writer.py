"""Handlers that write the predictions of images without labels, in the format of `movl-monai predict`."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from movl_monai.data import UnitDataset
from movl_monai.errors import MovlError
from movl_monai.evaluation.collect import column
from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.evaluation.handler import CollectingImages, calling_bundle, model_facts
from movl_monai.evaluation.rows import image_rows, left_out_row, results_csv, results_json
from movl_monai.evaluation.trust_record import TrustRecord, read_trust
from movl_monai.files import write_atomically, write_file_table
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.report.tasks import task_named

if TYPE_CHECKING:
    from movl_monai.data import FileOutcome

__all__ = ["MarkedPredictionWriter", "PredictionWriter", "TrustMarks"]

_LOGGER = logging.getLogger(__name__)


class TrustMarks:
    """Find the trust record of a network, and log the flags of its predictions.

    Args:
        path: file of the record, usually ``trust.pt`` beside the checkpoint; None for no record.

    Attributes:
        record: the record, after :meth:`open`; None if there is none.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.record: TrustRecord | None = None

    def open(self, network: nn.Module, class_names: Sequence[str]) -> None:
        """Read the record after the checkpoint is loaded, or log the reason why there is none.

        Raises:
            TrustError: if the record is damaged, of another format version, or of another checkpoint.
            MovlError: if it is of other classes.
        """
        self.record = None
        if self.path is None:
            _LOGGER.info("Predictions are not marked: `trust` is null.")
        elif not self.path.is_file():
            _LOGGER.info(
                "Predictions are not marked: there is no %s beside the checkpoint; an evaluation writes it.",
                self.path.name,
            )
        else:
            record = read_trust(self.path, network)
            if list(record.class_names) != list(class_names):
                raise MovlError(
                    f"The trust record is of the classes {list(record.class_names)}, predictions of "
                    f"{list(class_names)}; expected the same in the same order."
                )
            self.record = record
            if record.gaps:
                _LOGGER.info("The trust record does not know: %s.", ", ".join(record.gaps))

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the number of flagged rows among the predicted images."""
        for name, message in (
            ("outside", "%d of %d images are outside what this model was trained on."),
            ("abstain", "The model abstains on %d of %d images, which are outside or of which it is unsure."),
        ):
            known = [row[name] for row in rows if row.get(name) is not None]
            if known:
                _LOGGER.info(message, sum(known), len(known))


class PredictionWriter(CollectingImages):
    """Write predictions.csv, the table of `movl-monai predict`, for images with or without labels.

    If the engine's data set is an :class:`~movl_monai.data.ImageDataset`, files that could not be read or were left out
    have a row with their reason, and ``local/files.csv`` beside the table maps ids to files.

    Args:
        output_dir: folder of the file.
        class_names: names in the order of the logits.
        filename: name of the file.
        network: network whose task decides the columns; None takes a classification.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        filename: str = "predictions.csv",
        network: nn.Module | None = None,
    ) -> None:
        super().__init__(output_dir, class_names=class_names, network=network)
        self.filename = filename

    def finish(self, engine: Engine | None = None) -> None:
        """Gather from all processes; the first one writes."""
        predictions, features = self.collector.gather_with_features()
        if idist.get_rank() == 0:
            files, places = _files_of(engine)
            self.write(predictions, features, files=files, places=places)

    def write(
        self,
        predictions: Predictions,
        features: np.ndarray,
        *,
        files: Sequence[FileOutcome] = (),
        places: Sequence[tuple[str, str, int | None]] = (),
    ) -> None:
        """Write the tables, and log the number of predictions per class."""
        rows = self._rows(predictions, features, files)
        path = self.output_dir / self.filename
        task = self.collector.task
        write_atomically(path, results_csv(rows, self.class_names, task=task).encode())
        if model := self.model():
            text = results_json(rows, self.class_names, model=model, task=task)
            write_atomically(path.with_suffix(".json"), text.encode())
        if places:
            write_file_table(self.output_dir, places)
        counts = Counter(name for row in rows for name in task_named(task).names_in(row))
        summary = ", ".join(f"{name} {counts[name]}" for name in self.class_names if counts)
        _LOGGER.info("Predicted %d images%s: %s", len(predictions), f" ({summary})" if summary else "", path)

    def _rows(
        self, predictions: Predictions, features: np.ndarray, files: Sequence[FileOutcome]
    ) -> list[dict[str, Any]]:
        """Return the rows in the order of the list of files, followed by images that are not on the list."""
        records = {file.id: file.record for file in files}
        rows = self.judge(predictions, features, [records.get(image, {}) for image in predictions.ids])
        done = {row["id"]: row for row in rows}
        listed = [file for file in files if _has_row(file, done)]
        return [done.pop(file.id, {}) or left_out_row(file) for file in listed] + list(done.values())

    def model(self) -> dict[str, str]:
        """Return facts about the model for ``predictions.json``; {} writes none."""
        return {}

    def judge(self, predictions: Predictions, features: np.ndarray, records: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the row of each predicted image."""
        return image_rows(
            predictions.ids,
            records,
            predictions.logits,
            None,
            class_names=self.class_names,
            task=task_named(self.collector.task),
        )


class MarkedPredictionWriter(PredictionWriter):
    """Write predictions.csv and predictions.json with the flags of a trust record, if one is beside the checkpoint.

    The network runs once: the record's OOD score uses the recorded input of the head. This handler must come after the
    handler that loads the checkpoint.

    Args:
        output_dir: folder of the file.
        class_names: names in the order of the logits.
        network: network that the record must belong to, possibly inside DistributedDataParallel.
        trust: file of the record; None writes no flags. The log gives the reason if predictions are not flagged.
        filename: name of the file.

    Raises:
        TrustError: at the start, if the record is damaged, of another format version, or of another checkpoint.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        network: nn.Module,
        trust: str | os.PathLike[str] | None = None,
        filename: str = "predictions.csv",
    ) -> None:
        super().__init__(output_dir, class_names=class_names, filename=filename, network=network)
        self.network = network
        self.bundle = calling_bundle()
        self.marks = TrustMarks(trust)
        self.tap = FeatureTap(network)

    def attach(self, engine: Engine) -> None:
        """Collect in every iteration and finish after the run."""
        engine.add_event_handler(Events.STARTED, lambda: self._open())
        super().attach(engine)

    def finish(self, engine: Engine | None = None) -> None:
        """Gather from all processes; the first one writes."""
        self.tap.close()
        super().finish(engine)

    def model(self) -> dict[str, str]:
        """Return name and version of the bundle whose config built this handler, and facts about the network."""
        return model_facts(self.network, self.bundle)

    def judge(self, predictions: Predictions, features: np.ndarray, records: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the row of each predicted image with its flags, and log the number of flagged images."""
        rows = image_rows(
            predictions.ids,
            records,
            predictions.logits,
            features if features.shape[1] else None,
            class_names=self.class_names,
            trust=self.marks.record,
            task=task_named(self.collector.task),
        )
        self.marks.log(rows)
        return rows

    def _open(self) -> None:
        self.tap.close()
        self.marks.open(self.network, self.class_names)
        if self.marks.record is not None:
            self.tap.open()

    def _features(self, engine: Engine) -> torch.Tensor | None:
        if self.marks.record is None:
            return None
        return self.tap.take(len(column(engine.state.batch, "id") or ()))


def _files_of(engine: Engine | None) -> tuple[list[FileOutcome], list[tuple[str, str, int | None]]]:
    """Return the outcomes of the engine's data set, with id, path and frame of each file; empty if it has none."""
    loader = getattr(getattr(engine, "state", None), "dataloader", None)
    dataset = getattr(loader, "dataset", None)
    files = list(getattr(dataset, "files", ()))
    by_unit = isinstance(dataset, UnitDataset)
    places = [(file.case if by_unit and not file.skipped else file.id, file.path, file.frame) for file in files]
    return dataset.outcomes() if isinstance(dataset, UnitDataset) else files, places


def _has_row(file: FileOutcome, done: dict[str, Any]) -> bool:
    """Return whether an image was predicted or left out; a readable image that was not requested has no row."""
    return bool(file.reason) or file.id in done
