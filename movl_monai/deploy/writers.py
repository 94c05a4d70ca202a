"""Writer operators: write predictions as DICOM objects, and as a table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from movl_monai.deploy.errors import clean_errors
from movl_monai.deploy.prediction import NotWrittenError, Prediction, outcome_of, write_outputs
from movl_monai.deploy.sdk import Operator

__all__ = ["CaptureWriterOperator", "ReportWriterOperator", "SegmentationWriterOperator", "TableWriterOperator"]

_LOGGER = logging.getLogger(__name__)


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
