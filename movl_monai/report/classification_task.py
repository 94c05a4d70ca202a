"""Classification: one class for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from movl_monai.fonts import legible_names
from movl_monai.metrics.classification import section_figures
from movl_monai.metrics.conformal import CLASS_METHODS
from movl_monai.metrics.declared import CLASS_FIGURES, GRADE_FIGURES, TaskFigures
from movl_monai.metrics.entries import Comparison, settings_of
from movl_monai.metrics.intervals import Figures, bootstrap_class_intervals, bootstrap_intervals
from movl_monai.metrics.judged import Judged, judged_images
from movl_monai.metrics.paired import compare_runs
from movl_monai.metrics.stored.outputs import StoredOutputs, find_outputs
from movl_monai.metrics.stored.predictions import Predictions, predictions_csv, sections
from movl_monai.metrics.weighted import WeightedFigures
from movl_monai.report.entries import ResamplingOptions
from movl_monai.report.figure import draw_figure
from movl_monai.report.options import ReportOptions
from movl_monai.report.report_tables import report_tables
from movl_monai.report.sections.figures import figure_names, score_names
from movl_monai.report.sections.first_screen import (
    FIRST_FIGURES,
    METHODS,
    class_rates,
    leading_figure,
    promised_method,
    risk_at,
    shares_above,
    tested_sections,
    trust_notes,
    trust_table,
)
from movl_monai.report.summary import how_good_elsewhere, how_good_here, how_sure
from movl_monai.report.task import Task
from movl_monai.report.trust_entries import trust_entries

__all__ = ["CLASSIFICATION", "NO_ANSWER_OUTSIDE", "NO_ANSWER_UNSURE", "Classification", "answer_of", "no_answer"]

NO_ANSWER_OUTSIDE = "No answer: unlike the training images"
NO_ANSWER_UNSURE = "No answer: not sure enough"


def no_answer(*, outside: bool | None, abstain: bool | None) -> str:
    """Return the sentence that replaces an answer, "" if the model answers.

    Args:
        outside: whether the image is out-of-distribution; None if unknown.
        abstain: whether the model abstains; None if unknown.

    Example:
        >>> no_answer(outside=True, abstain=True), no_answer(outside=None, abstain=False)
        ('No answer: unlike the training images', '')
    """
    if outside:
        return NO_ANSWER_OUTSIDE
    return NO_ANSWER_UNSURE if abstain else ""


def answer_of(predicted: str, *, outside: bool | None, abstain: bool | None) -> str:
    """Return the predicted class, or the sentence of :func:`no_answer` if the model abstains."""
    return no_answer(outside=outside, abstain=abstain) or predicted


class Classification(Task):
    """One class for each image, from logits (B, C) with softmax.

    Attributes:
        sets: methods of the prediction sets, the promised one first.
    """

    sets: ClassVar[tuple[str, ...]] = CLASS_METHODS

    name = "classification"
    figures = CLASS_FIGURES
    page = "classification"
    kind = "Evaluation report"
    goal = "Classification of images into"
    output = "One logit per class, and from them probabilities and the most probable class."
    results = "predictions.csv"
    row_entries: ClassVar[tuple[str, ...]] = (
        *("id", "status", "reason", "detail", "answer", "format", "modality", "frame", "rows", "columns"),
        *("predicted", "predicted_number", "probabilities", "calibrated"),
        *("ood_score", "outside", "abstain", "prediction_set"),
    )

    @property
    def comparisons(self) -> tuple[TaskFigures, ...]:
        """Figures of comparisons; quadratic kappa selects where the classes are grades."""
        return (GRADE_FIGURES, self.figures)

    def weighted(self, images: Predictions, outputs: StoredOutputs, *, metrics: Sequence[str] | None = None) -> Figures:
        """Return the figures of labelled images as a function of their weights."""
        return WeightedFigures(images.labels, images.logits, metrics=metrics, figures=self.figures)

    def section(self, images: StoredOutputs, options: ResamplingOptions, outputs: StoredOutputs) -> dict[str, Any]:
        """Compute a :class:`~movl_monai.report.entries.Section` of the labelled images."""
        known, names = images.predictions.labeled(), images.class_names
        figures, reasons = section_figures(known.labels, known.logits, class_names=names, figures=self.figures)
        drawn = bootstrap_intervals(
            known.labels, known.logits, patients=known.patients, figures=self.figures, **options
        )
        classes = bootstrap_class_intervals(
            known.labels, known.logits, class_names=names, patients=known.patients, figures=self.figures, **options
        )
        notes = list(dict.fromkeys([*reasons, *drawn["notes"], *classes["notes"]]))
        if len(images) > len(known):
            notes.append(f"{len(images) - len(known)} images without a label are in none of the figures.")
        patients = {patient for patient in known.patients if patient is not None}
        return {
            **figures,
            "n_unlabeled": len(images) - len(known),
            "n_patients": len(patients) or None,
            "intervals": drawn["intervals"],
            "per_class_intervals": classes["per_class"],
            "resampling": settings_of(drawn),
            "notes": notes,
        }

    def trust(self, outputs: StoredOutputs, options: ReportOptions) -> Mapping[str, Any]:
        """Compute :class:`~movl_monai.report.entries.TrustEntries`."""
        return trust_entries(outputs, options, figures=self.figures, sets=self.sets, ordered=self.ordered)

    def results_text(self, predictions: Predictions, report: Mapping[str, Any]) -> str:
        """Return the text of predictions.csv."""
        return predictions_csv(predictions, list(report["classes"]), decide=self.figures.decide)

    def pictures(self, predictions: Predictions, report: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the ROC curves."""
        parts = sections(predictions, id_domain=report["id_domain"], far_domains=report.get("far_domains", ()))
        columns = {"Internal test (ID)": parts.id} if len(parts.id) or not parts.ood else {}
        columns |= {f"External test: {name}": parts.ood[name] for name in sorted(parts.ood)}
        names = list(report["classes"])
        shown = {title: part.labeled() for title, part in columns.items()}
        return {"figure.png": draw_figure(shown, names, ordered=self.ordered)}

    def tables(self, report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of its tables."""
        return report_tables(report)

    def words(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sentences of the first screen."""
        return {
            "here": how_good_here(report),
            "elsewhere": how_good_elsewhere(report),
            "sure": how_sure(report),
            "outside": trust_notes(report),
            "trust": trust_table(report),
        }

    def page_values(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of its sections."""
        return {
            "class_rates": class_rates,
            "figure_names": figure_names(report, self.figures, shown=FIRST_FIGURES),
            "first_figures": FIRST_FIGURES,
            "leading_figure": leading_figure,
            "method_names": METHODS,
            "promised": promised_method(report),
            "risk_at": risk_at,
            "scores": score_names(report),
            "shares_above": shares_above(report),
            "tested": tested_sections(report),
        }

    def judged(self, evaluation: Path, *, id_domain: str, figures: TaskFigures) -> dict[str, Judged]:
        """Read predictions.csv by domain."""
        return judged_images(evaluation / self.results, id_domain=id_domain, figures=figures)

    def compare(
        self, run: Path, against: Path, *, report: Mapping[str, Any], name: str, **resampling: Any
    ) -> Comparison:
        """Compare the stored outputs of two evaluations."""
        return compare_runs(run, against, name=name, figures=self.figures, **resampling)

    def find_evaluation(self, run: Path) -> Path:
        """Return the folder with the stored outputs of a run."""
        return find_outputs(run).parent

    def said(self, row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
        """Return the lines below the picture of an image."""
        predicted = legible_names(class_names)[list(class_names).index(row["predicted"])]
        values = row.get("calibrated") or row["probabilities"]
        refusal = no_answer(outside=row.get("outside"), abstain=row.get("abstain"))
        if refusal:
            return [refusal, f"Raw output of the network, not to be relied on: {predicted} {max(values):.2f}"]
        kind = "calibrated" if row.get("calibrated") else "not calibrated"
        return [f"Most probable: {predicted}, probability {max(values):.2f} ({kind})"]

    def answers(
        self, logits: np.ndarray, features: np.ndarray | None, *, class_names: Sequence[str], trust: Any = None
    ) -> list[dict[str, Any]]:
        """Return the predicted class of each image with its probabilities, and the judgement of a trust record.

        Args:
            logits: (N, C), before softmax.
            features: (N, F), the input of the head; None if unknown.
            class_names: the C names.
            trust: a :class:`~movl_monai.evaluation.trust_record.TrustRecord`, or None.

        Returns:
            for each image ``answer`` (the class, or a sentence with the reason why there is none), ``predicted`` (the
            most probable class, also if the model abstains) and its ``predicted_number`` from 0, which pictures show if
            the name is not legible, ``probabilities`` (C) of the raw logits, and from the trust record, None if
            unknown: ``calibrated`` (C; None if the model abstains), ``ood_score``, ``outside``, ``abstain``,
            ``prediction_set`` (names).
        """
        values = np.asarray(logits, dtype=np.float64)
        probabilities = self.probabilities(values)
        trusted = None if trust is None else trust.apply(values, features)

        def of(name: str, number: int) -> Any:
            column = None if trusted is None else getattr(trusted, name)
            return None if column is None else column[number].tolist()

        rows: list[dict[str, Any]] = []
        for number, best in enumerate(self.decide(probabilities).tolist()):
            chosen = of("sets", number)
            marks = {name: of(name, number) for name in ("outside", "abstain")}
            rows.append(
                {
                    "answer": answer_of(class_names[best], **marks),
                    "predicted": class_names[best],
                    "predicted_number": best,
                    "probabilities": probabilities[number].tolist(),
                    # the temperature was fitted for images that the model answers
                    "calibrated": None if no_answer(**marks) else of("probabilities", number),
                    "ood_score": of("ood_scores", number),
                    **marks,
                    "prediction_set": None
                    if chosen is None
                    else [name for name, inside in zip(class_names, chosen, strict=True) if inside],
                }
            )
        return rows


CLASSIFICATION = Classification()
"""The task of classifiers."""
