"""Base of tasks: the kinds of answers that a network gives, such as a class for each image or for each pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.declared import TaskFigures
from movl_monai.metrics.entries import Comparison
from movl_monai.metrics.intervals import Figures
from movl_monai.metrics.judged import Judged
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.report.entries import ResamplingOptions
from movl_monai.report.model_card import ONLY_CLASSES
from movl_monai.report.options import ReportOptions

__all__ = ["Task"]


class Task(ABC):
    """One kind of answer: its figures, its part of the report, its files and its rows.

    A task has one object in :data:`movl_monai.report.tasks.TASKS`. Networks, reports, runs and exported files hold its
    name.

    Attributes:
        name: as in report.json, in metadata of exported files, and ``task`` of a network.
        figures: figures of its reports and comparisons.
        page: template ``<page>.html`` of its report; ``<page>_words.html`` has its part of the common sections.
        kind: kind of report, in its title.
        goal: what a network of this task does, in front of the names of its classes.
        output: what it gives, as a sentence.
        per_pixel: True for logits (B, C, H, W): predictions are masks, the slices of a volume are one case, and the
            head reads maps; else logits are (B, C) and the head reads a vector for each image.
        ordered: True for classes in an order, such as grades.
        numeric: True if logits are numbers in the unit of the data, which have no probabilities.
        unit: name of a row of its results, in the plural.
        results: file in the folder of an evaluation with a row for each image or case.
        row_entries: entries of the rows of :meth:`answers` that the table of predictions always has, in order.
        limit: sentence of model cards on other contents of images.
        pipeline: kind of model in the front matter of a model card.
    """

    name: ClassVar[str]
    figures: ClassVar[TaskFigures]
    page: ClassVar[str]
    kind: ClassVar[str]
    goal: ClassVar[str]
    output: ClassVar[str]
    per_pixel: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    numeric: ClassVar[bool] = False
    unit: ClassVar[str] = "images"
    results: ClassVar[str]
    row_entries: ClassVar[tuple[str, ...]]
    limit: ClassVar[str] = ONLY_CLASSES
    pipeline: ClassVar[str] = "image-classification"

    @property
    def comparisons(self) -> tuple[TaskFigures, ...]:
        """Figures of comparisons of methods; of several the first whose main figure selects or is in a table."""
        return (self.figures,)

    def compared(self, selected_by: str) -> TaskFigures:
        """Return the figures of a comparison of methods.

        Args:
            selected_by: name of the validation figure that selected the checkpoints.
        """
        return next((shown for shown in self.comparisons if shown.main in selected_by), self.figures)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Compute the probabilities of logits.

        Args:
            logits: (N, C), or (N, C, H, W) of a task per pixel; before softmax.

        Returns:
            float64 in [0, 1], of the same shape. Those of one class add up to 1 unless a task says otherwise.
        """
        return softmax(logits)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the answers of a network that does not abstain.

        Args:
            probabilities: result of :meth:`probabilities`.

        Returns:
            the number of the most probable class, int64 (N,), or (N, H, W) of a task per pixel, unless a task says
            otherwise.

        Example:
            >>> from movl_monai.report.tasks import task_named
            >>> task = task_named("classification")
            >>> task.decide(task.probabilities(np.array([[0.0, 1.0], [3.0, 1.0]])))
            array([1, 0])
        """
        return probabilities.argmax(axis=1)

    def weighted(self, images: Predictions, outputs: StoredOutputs, *, metrics: Sequence[str] | None = None) -> Figures:
        """Return the figures of labelled images as a function of their weights (N, R); not of a task per pixel.

        Args:
            images: images with a label, of any section of ``outputs``.
            outputs: of all splits, from whose val images thresholds come.
            metrics: names of the figures; None takes all that can be resampled.
        """
        raise NotImplementedError(f"The figures of a {self.name} are not computed from stored outputs.")

    def section(self, images: StoredOutputs, options: ResamplingOptions, outputs: StoredOutputs) -> dict[str, Any]:
        """Compute the figures of one section of a report, with its own ``notes``; not of a task per pixel.

        Args:
            images: the images of the section, with or without labels.
            options: of the intervals.
            outputs: of all splits, from whose val images thresholds come.
        """
        raise NotImplementedError(f"The figures of a {self.name} are not computed from stored outputs.")

    def trust(self, outputs: StoredOutputs, options: ReportOptions) -> Mapping[str, Any]:
        """Compute the entries of a report on trust in the network; not of a task per pixel.

        Args:
            outputs: of all splits.
            options: of the report.
        """
        raise NotImplementedError(f"The trust in a {self.name} is not computed from stored outputs.")

    def results_text(self, predictions: Predictions, report: Mapping[str, Any]) -> str:
        """Return the text of the file of results, with a row for each evaluated image; not of a task per pixel."""
        raise NotImplementedError(f"The results of a {self.name} are not of whole images.")

    def pictures(self, predictions: Predictions, report: Mapping[str, Any]) -> dict[str, bytes]:
        """Return pictures of a report (PNG) by file name, besides the charts."""
        return {}

    def tables(self, report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the tables (CSV) of a report by name; a table without figures has no rows."""
        return {}

    @abstractmethod
    def words(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first screen: sentences ``here``, ``elsewhere``, ``sure``, ``outside``, and table ``trust``."""

    def trust_facts(self, report: Mapping[str, Any]) -> dict[str, str | None]:
        """Return facts of model cards on trust that the entries of this task tell otherwise; see :mod:`.facts`."""
        return {}

    def page_values(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return variables of its templates that other tasks do not have."""
        return {}

    @abstractmethod
    def judged(self, evaluation: Path, *, id_domain: str, figures: TaskFigures) -> dict[str, Judged]:
        """Read the results of an evaluation by domain: "id", then the others.

        Args:
            evaluation: its folder.
            id_domain: the in-distribution domain.
            figures: result of :meth:`compared`.

        Raises:
            MovlError: if the file is missing or damaged.
        """

    @abstractmethod
    def compare(
        self, run: Path, against: Path, *, report: Mapping[str, Any], name: str, **resampling: Any
    ) -> Comparison:
        """Compute the paired differences of two evaluations on the same images or cases.

        Args:
            run: folder of an evaluation.
            against: folder of the evaluation to compare with.
            report: report of ``run``.
            name: name of ``against``.
            resampling: ``rounds``, ``level`` and ``seed`` of the intervals.

        Raises:
            MovlError: if the results cannot be read or matched.
        """

    @abstractmethod
    def find_evaluation(self, run: Path) -> Path:
        """Return the folder of an evaluation that another run can be compared with, given it or its run.

        Raises:
            MovlError: if there is none.
        """

    def answers(
        self, logits: np.ndarray, features: np.ndarray | None, *, class_names: Sequence[str], trust: Any = None
    ) -> list[dict[str, Any]]:
        """Return the entries of the rows of N images, ``answer`` among them; not of a task per pixel.

        Args:
            logits: (N, C), before softmax.
            features: (N, F), the input of the head; None if unknown.
            class_names: the C names.
            trust: trust record, or None.
        """
        raise NotImplementedError(f"A {self.name} has no answer for a whole image.")

    def said(self, row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
        """Return the lines below the picture of an image: its answer, or the reason why there is none.

        Args:
            row: row of :meth:`answers`.
            class_names: the C names; one that a picture cannot show is replaced by its number.
        """
        return [str(row["answer"])]

    def names_in(self, row: Mapping[str, Any]) -> list[str]:
        """Return the names of classes that a row of :meth:`answers` holds, for counts of a whole prediction."""
        return [row["predicted"]] if row.get("predicted") else []
