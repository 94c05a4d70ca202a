"""Base of tasks of whole images whose results are read from the stored outputs of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from movl_monai.metrics.declared import TaskFigures
from movl_monai.metrics.entries import Comparison
from movl_monai.metrics.judged import Judged, judged_outputs
from movl_monai.metrics.paired import compare_runs
from movl_monai.metrics.stored.outputs import StoredOutputs, find_outputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.report.task import Task

__all__ = ["ImageTask", "section_facts"]


class ImageTask(Task):
    """A task of whole images with logits (B, C)."""

    kind = "Evaluation report"
    results = "predictions.csv"

    def judged(self, evaluation: Path, *, id_domain: str, figures: TaskFigures) -> dict[str, Judged]:
        """Read the stored outputs by domain."""
        return judged_outputs(evaluation, self.weighted)

    def compare(
        self, run: Path, against: Path, *, report: Mapping[str, Any], name: str, **resampling: Any
    ) -> Comparison:
        """Compare the stored outputs of two evaluations."""
        return compare_runs(run, against, name=name, weighted=self.weighted, **resampling)

    def find_evaluation(self, run: Path) -> Path:
        """Return the folder with the stored outputs of a run."""
        return find_outputs(run).parent


def section_facts(images: StoredOutputs, known: Predictions) -> dict[str, Any]:
    """Return the numbers of labelled and other images and of patients of a section.

    Args:
        images: all of its images.
        known: those with a label.
    """
    patients = {patient for patient in known.patients if patient is not None}
    return {"n": len(known), "n_unlabeled": len(images) - len(known), "n_patients": len(patients) or None}
