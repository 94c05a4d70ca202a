"""Ordinal: one grade for each image, the median of the distribution over the grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from movl_monai.metrics.classification_metrics import median_grade
from movl_monai.metrics.conformal import RANGE_METHODS
from movl_monai.metrics.declared import ORDINAL_FIGURES, TaskFigures
from movl_monai.metrics.grades import grade_figures, grade_numbers
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.report.classification_task import Classification
from movl_monai.report.entries import ResamplingOptions
from movl_monai.report.sections.figures import figure_names
from movl_monai.report.sections.first_screen import class_rates, trust_notes, trust_table
from movl_monai.report.summary import how_sure, on_images
from movl_monai.report.words import bounds_words, percent

__all__ = ["ORDINAL", "Ordinal", "grade_rates"]

_FIRST = ("quadratic_kappa", "within_one", "mean_absolute_error")


class Ordinal(Classification):
    """One grade for each image, from logits (B, C) with softmax: the median of the distribution.

    Classes are in the order of their grades. Figures, prediction sets and operating points respect that order: errors
    count by their distance, sets are ranges, and points are those of "grade k or more".
    """

    name = "ordinal"
    figures = ORDINAL_FIGURES
    page = "ordinal"
    goal = "Grading of images as"
    output = "One logit per grade, and from them probabilities, the median grade and a range of grades."
    sets = RANGE_METHODS
    ordered = True
    row_entries: ClassVar[tuple[str, ...]] = (*Classification.row_entries, "expected_grade")

    @property
    def comparisons(self) -> tuple[TaskFigures, ...]:
        """Figures of comparisons."""
        return (self.figures,)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the median grade, int64 (N,)."""
        return median_grade(probabilities)

    def section(self, images: StoredOutputs, options: ResamplingOptions, outputs: StoredOutputs) -> dict[str, Any]:
        """Compute the section of a classification, with ``grades``: the entries of grade_figures."""
        section, known = super().section(images, options, outputs), images.predictions.labeled()
        grades = grade_figures(
            known.labels,
            known.logits,
            self.figures.decide(known.logits),
            class_names=images.class_names,
            patients=known.patients,
            **options,
        )
        return {**section, "grades": grades, "notes": list(dict.fromkeys([*section["notes"], *grades["notes"]]))}

    def tables(self, report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the tables of a classification, with the figures of "k or more" and the distances."""
        tables = super().tables(report)
        parts = {"id": report.get("id"), **{f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}}
        parts |= {"val": report.get("val"), "calibration": report.get("calibration_section")}
        grades = {key: part["grades"] for key, part in parts.items() if part}
        tables["grade_or_more"] = [
            {
                "section": key,
                "grade": grade,
                "n": found["n"],
                "figure": name,
                "value": found[name],
                **_bounds(found, name),
            }
            for key, part in grades.items()
            for grade, found in part["at_least"].items()
            for name in ("sensitivity", "specificity", "auroc")
        ]
        tables["grade_distances"] = [
            {"section": key, "distance": distance, "images": count}
            for key, part in grades.items()
            for distance, count in part["distances"].items()
        ]
        return tables

    def words(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sentences of the first screen."""
        here = report["id"]
        return {
            "here": _how_good(here)
            if here and here["n"]
            else ["No labeled test images from the place it was trained for were evaluated."],
            "elsewhere": {
                name: [*_how_good(part), _on_change(part, here)] if part["n"] else ["No labeled images."]
                for name, part in report["ood"].items()
            },
            "sure": how_sure(report),
            "outside": trust_notes(report),
            "trust": trust_table(report),
        }

    def page_values(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of its sections."""
        return {
            **super().page_values(report),
            "figure_names": figure_names(report, self.figures, shown=_FIRST),
            "first_figures": _FIRST,
            "grade_rates": grade_rates,
            "leading_figure": lambda section: self.figures.main,
        }

    def answers(
        self, logits: np.ndarray, features: np.ndarray | None, *, class_names: Sequence[str], trust: Any = None
    ) -> list[dict[str, Any]]:
        """Return the answers of a classification, with the median as ``predicted`` and the mean as ``expected_grade``.

        The mean is of the calibrated probabilities if the row has them, else of the raw ones; it is a number between
        the names of the grades. ``prediction_set`` is a range without gaps.
        """
        rows = super().answers(logits, features, class_names=class_names, trust=trust)
        numbers = grade_numbers(class_names)
        for row in rows:
            row["expected_grade"] = float(np.dot(row["calibrated"] or row["probabilities"], numbers))
        return rows


def grade_rates(section: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each grade the rates of a class, and the images that are within one grade, too low and too high.

    Args:
        section: section of a report of grades.
        classes: names in the order of the logits.
    """
    matrix = np.asarray(section["confusion_matrix"], dtype=int)
    rates = {one["label"]: one for one in class_rates(section, classes)}
    empty: dict[str, Any] = {"sensitivity": None, "intervals": {}}
    return [
        {
            **rates.get(label, empty),
            "label": label,
            "n": int(matrix[grade].sum()),
            "right": int(matrix[grade, grade]),
            "within_one": int(matrix[grade, max(0, grade - 1) : grade + 2].sum()),
            "low": int(matrix[grade, :grade].sum()),
            "high": int(matrix[grade, grade + 1 :].sum()),
        }
        for grade, label in enumerate(classes)
    ]


def _how_good(section: Mapping[str, Any]) -> list[str]:
    level, interval = percent(section["resampling"]["level"], digits=0), section["intervals"]["quadratic_kappa"]
    if section["quadratic_kappa"] is None:
        return ["Kappa cannot be given: all labels and answers are of one grade.", on_images(section)]
    words = f"{level} interval {bounds_words(interval, percent=False)}" if interval else "No interval"
    return [f"{words}; guessing gives 0, and 1 is perfect.", on_images(section)]


def _on_change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> str:
    if not here or here["quadratic_kappa"] is None or section["quadratic_kappa"] is None:
        return "It cannot be compared with the in-distribution figure, because there is none."
    change = section["quadratic_kappa"] - here["quadratic_kappa"]
    if abs(change) < 0.0005:
        return "Kappa is the same as in the internal test."
    return f"Kappa is {abs(change):.3f} {'higher' if change > 0 else 'lower'} than in the internal test."


def _bounds(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    low, high = entry["intervals"].get(name) or (None, None)
    return {"low": low, "high": high}


ORDINAL = Ordinal()
"""The task of graders."""
