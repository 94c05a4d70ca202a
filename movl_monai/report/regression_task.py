"""Regression: a number for each image."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from movl_monai.fonts import legible_names
from movl_monai.metrics.declared import NUMBER_FIGURES
from movl_monai.metrics.entries import settings_of
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.regression import NumberFigures, number_intervals, number_labels
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions, sections
from movl_monai.metrics.subgroups import group_report
from movl_monai.report.classification_task import NO_ANSWER_OUTSIDE
from movl_monai.report.entries import NumberTrust, ResamplingOptions
from movl_monai.report.image_task import ImageTask, section_facts
from movl_monai.report.options import ReportOptions
from movl_monai.report.sections.figures import score_names
from movl_monai.report.sections.first_screen import tested_sections
from movl_monai.report.sections.numbers import draw_numbers, facts_on_numbers, number_tables, number_words
from movl_monai.report.trust_entries import NO_GROUPS, calibrated_on, feature_detection, shown_sections

__all__ = ["REGRESSION", "Regression"]


class Regression(ImageTask):
    """A number for each image, from logits (B, 1), which are the number in its own unit."""

    name = "regression"
    figures = NUMBER_FIGURES
    numeric = True
    page = "regression"
    goal = "Estimation from images of the number"
    output = "The number, in its own unit."
    limit = "It gives a number for every image, also for one of anything else."
    pipeline = "other"
    row_entries = (
        *("id", "status", "reason", "detail", "answer", "format", "modality", "frame", "rows", "columns"),
        *("value", "interval_low", "interval_high", "ood_score", "outside", "abstain"),
    )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the numbers, float64 (N, 1): a regression has no probabilities."""
        return np.asarray(logits, dtype=np.float64)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the numbers, float64 (N,)."""
        return probabilities[:, 0]

    def weighted(
        self, images: Predictions, outputs: StoredOutputs, *, metrics: Sequence[str] | None = None
    ) -> NumberFigures:
        """Return the figures of labelled images as a function of their weights."""
        return NumberFigures(number_labels(images), images.logits, metrics=metrics)

    def section(self, images: StoredOutputs, options: ResamplingOptions, outputs: StoredOutputs) -> dict[str, Any]:
        """Compute a :class:`~movl_monai.report.entries.NumberSection` of the labelled images."""
        known = images.predictions.labeled()
        figures, labels = self.weighted(known, outputs), number_labels(known)
        bootstrap = PatientBootstrap(len(known), known.patients, **options)
        intervals = bootstrap.intervals(figures, why="the numbers were all equal, or one image was left")
        values = {name: _number(value[0]) for name, value in figures(np.ones((len(known), 1))).items()}
        missing = [name for name, value in values.items() if value is None]
        gaps = [f"No value for {', '.join(missing)}: it needs two or more different numbers."] if missing else []
        return {
            **section_facts(images, known),
            **values,
            "label_mean": _number(labels.mean()) if len(labels) else None,
            "label_sd": _number(labels.std(ddof=1)) if len(labels) > 1 else None,
            "intervals": intervals,
            "resampling": settings_of(bootstrap.facts),
            "notes": list(dict.fromkeys([*gaps, *bootstrap.notes])),
        }

    def trust(self, outputs: StoredOutputs, options: ReportOptions) -> Mapping[str, Any]:
        """Compute :class:`~movl_monai.report.entries.NumberTrust`."""
        parts = shown_sections(outputs)
        shown = {name: part.predictions for name, part in parts.items()}
        leading = self.figures.leading
        groups = group_report(
            parts,
            metrics=leading,
            weighted=partial(self.weighted, outputs=outputs, metrics=leading),
            small_below=options.small_group,
            **options.resampling,
        )
        if not outputs.groups:
            groups["notes"] = [*groups["notes"], NO_GROUPS]
        source = calibrated_on(outputs)
        entries: NumberTrust = {
            "number_intervals": number_intervals(shown, calibrated_on=source, alpha=options.alpha, level=options.level),
            "ood_detection": feature_detection(outputs, options),
            "groups": groups,
        }
        return entries

    def results_text(self, predictions: Predictions, report: Mapping[str, Any]) -> str:
        """Return the text of predictions.csv: id, label, value, split, domain, patient."""
        labels = number_labels(predictions)
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "label", "value", "split", "domain", "patient"])
        for row, image_id in enumerate(predictions.ids):
            known = "" if np.isnan(labels[row]) else repr(float(labels[row]))
            tail = [column[row] or "" for column in (predictions.splits, predictions.domains, predictions.patient_ids)]
            writer.writerow([image_id, known, repr(float(predictions.logits[row, 0])), *tail])
        return stream.getvalue()

    def pictures(self, predictions: Predictions, report: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the scatter plot and the Bland-Altman plot of every test."""
        parts = sections(predictions, id_domain=report["id_domain"], far_domains=report.get("far_domains", ()))
        columns = {"Internal test (ID)": parts.id} if len(parts.id) or not parts.ood else {}
        columns |= {f"External test: {name}": parts.ood[name] for name in sorted(parts.ood)}
        known = {title: part.labeled() for title, part in columns.items()}
        return {
            "figure.png": draw_numbers(
                {title: (part.labels.astype(float), part.logits[:, 0]) for title, part in known.items()},
                name=str(report["classes"][0]),
            )
        }

    def tables(self, report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of its tables."""
        return number_tables(report)

    def words(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sentences of the first screen."""
        return number_words(report)

    def page_values(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of its sections."""
        return {"scores": score_names(report), "tested": tested_sections(report)}

    def trust_facts(self, report: Mapping[str, Any]) -> dict[str, str | None]:
        """Return facts of model cards on the intervals."""
        return facts_on_numbers(report)

    def said(self, row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
        """Return the lines below the picture of an image: the number with its interval."""
        (name,) = legible_names(class_names)
        if row.get("outside"):
            return [str(row["answer"])]
        low, high = row.get("interval_low"), row.get("interval_high")
        interval = f", interval {low:.4g} to {high:.4g}" if low is not None and high is not None else ""
        return [f"{name}: {row['value']:.4g}{interval}"]

    def answers(
        self, logits: np.ndarray, features: np.ndarray | None, *, class_names: Sequence[str], trust: Any = None
    ) -> list[dict[str, Any]]:
        """Return the number of each image, and the judgement of a trust record.

        Args:
            logits: (N, 1), the numbers.
            features: (N, F), the input of the head; None if unknown.
            class_names: the name of the number.
            trust: a :class:`~movl_monai.evaluation.trust_record.TrustRecord`, or None.

        Returns:
            for each image ``answer`` (the number with four digits, or a sentence with the reason why there is none),
            ``value`` (the number, also if the image is outside), and from the trust record, None if unknown:
            ``interval_low`` and ``interval_high`` (None if the image is outside), ``ood_score``, ``outside``,
            ``abstain``.
        """
        values = np.asarray(logits, dtype=np.float64)
        judged = None if trust is None else trust.apply(values, features)
        half = None if trust is None else trust.half_width
        rows = []
        for number, value in enumerate(values[:, 0].tolist()):
            outside = None if judged is None or judged.outside is None else bool(judged.outside[number])
            known = half is not None and not outside
            rows.append(
                {
                    "answer": NO_ANSWER_OUTSIDE if outside else f"{value:.4g}",
                    "value": value,
                    "interval_low": value - half if known else None,
                    "interval_high": value + half if known else None,
                    "ood_score": None
                    if judged is None or judged.ood_scores is None
                    else float(judged.ood_scores[number]),
                    "outside": outside,
                    "abstain": outside,
                }
            )
        return rows


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


REGRESSION = Regression()
"""The task of a number per image."""
