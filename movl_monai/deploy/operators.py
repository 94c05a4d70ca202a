"""Operators: prediction of the selected series with the bundle's own preprocessing, DICOM objects and a table."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from movl_monai.deploy.prediction import (
    NotWrittenError,
    Prediction,
    clean_errors,
    open_for,
    outcome_of,
    predict_files,
    write_outputs,
)
from movl_monai.deploy.sdk import ConditionType, Image, Operator, model_for_volumes, write_volume
from movl_monai.deploy.studies import files_of

__all__ = [
    "CaptureWriterOperator",
    "ClassificationOperator",
    "ReportWriterOperator",
    "SegmentationOperator",
    "SegmentationWriterOperator",
    "TableWriterOperator",
]

_LOGGER = logging.getLogger(__name__)


class _InferenceOperator(Operator):
    """Predict the selected series.

    The model is opened with the operator, so that a wrong model is reported before anything is read.

    Args:
        fragment: the application.
        model: file of `movl-monai export`, the folder that holds only this file, or a run.
        output_folder: output folder of the application; files in ``local/`` map ids back to input files.
        bundle: name of the bundle that the model must come from; None accepts any.
        batch_size: number of images that are computed at once; None chooses by the free memory.
        num_workers: number of processes that decode; 0 decodes in this one.

    Named input:
        series: list of ``StudySelectedSeries``; or an ``Image``, see :mod:`movl_monai.deploy.sdk`.

    Named output:
        prediction: :class:`movl_monai.deploy.prediction.Prediction`.

    Raises:
        ConfigError: if the model is for another task or of another bundle.
        ExportError: if the model file is damaged.
    """

    task: ClassVar[str]

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        model: str | Path,
        output_folder: str | Path,
        bundle: str | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> None:
        self.model = open_for(model, task=self.task, bundle=bundle)
        self.output_folder = Path(output_folder)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.outcome = outcome_of(fragment)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: Any) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.output("prediction").condition(ConditionType.NONE)  # with or without a writer

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Predict the received series and emit the prediction."""
        received = op_input.receive("series")
        with clean_errors("predict the series"):
            prediction = self.predict(received)
        self.outcome.predicted(prediction.listed, prediction.rows)
        op_output.emit(prediction, "prediction")

    def predict(self, received: Any) -> Prediction:
        """Predict the value received at ``series``; files left out earlier get rows too.

        Raises:
            DataError: if nothing could be predicted.
        """
        options: dict[str, Any] = {"batch_size": self.batch_size, "num_workers": self.num_workers}
        options |= {"left_out": self.outcome.left_out, "started": self.outcome.started}
        if not isinstance(received, Image):
            return predict_files(self.model, files_of(received or ()), folder=self.output_folder, **options)
        with tempfile.TemporaryDirectory(prefix="movl-deploy-") as temporary:
            path = Path(temporary) / "volume.nii"
            write_volume(received, path)
            return predict_files(model_for_volumes(self.model), [path], folder=self.output_folder, **options)


class ClassificationOperator(_InferenceOperator):
    """Give a class, a grade, findings or a number to every image of a series; see :class:`_InferenceOperator`."""

    task = "classification"


class SegmentationOperator(_InferenceOperator):
    """Segment a series as a volume, or its images one by one; see :class:`_InferenceOperator`."""

    task = "segmentation"


class _WriterOperator(Operator):
    """Write one kind of output; report objects that cannot be derived from their source at the end.

    Args:
        fragment: the application.
        output_folder: folder of the outputs.
        codes: codes of classes, by name: (value, scheme designator, meaning).

    Named input:
        prediction: prediction of an inference operator.

    Raises:
        MovlError: (when it runs) if the output folder cannot be written, or the disk is full.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        output_folder: str | Path,
        codes: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.output_folder, self.codes = Path(output_folder), codes
        self.outcome = outcome_of(fragment)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: Any) -> None:
        """Declare the port."""
        spec.input("prediction")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the received prediction."""
        prediction = op_input.receive("prediction")
        with clean_errors(f"write the outputs ({self.kind})"):
            try:
                files = self.write(prediction)
            except NotWrittenError as error:
                self.outcome.not_written(error.problems)
                files = error.files
                _LOGGER.warning("%s", error)
        _LOGGER.info("Wrote %d files (%s).", len(files), self.kind)

    def write(self, prediction: Prediction) -> list[str]:
        """Write a prediction, and return the files, relative to the output folder."""
        return write_outputs(prediction, [self.kind], folder=self.output_folder, codes=self.codes)


class ReportWriterOperator(_WriterOperator):
    """Write a structured report on each series, see :func:`~movl_monai.predict.dicom.classification_report`."""

    kind = "sr"


class SegmentationWriterOperator(_WriterOperator):
    """Write masks as DICOM SEG, see :func:`~movl_monai.predict.dicom.segmentation_object`."""

    kind = "seg"


class CaptureWriterOperator(_WriterOperator):
    """Write pictures for human readers, see :func:`~movl_monai.predict.dicom.secondary_capture`."""

    kind = "sc"


class TableWriterOperator(_WriterOperator):
    """Write ``predictions.csv``, the table of `movl-monai predict`."""

    kind = "csv"

    def write(self, prediction: Prediction) -> list[str]:
        """Write the table, and name it in the outcome."""
        files = super().write(prediction)
        for name in files:
            self.outcome.table(name)
        return files
