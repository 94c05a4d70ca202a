"""Segmentation: a class for each pixel, and its evaluation in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from movl_monai.metrics.declared import MASK_FIGURES, TaskFigures
from movl_monai.metrics.entries import Comparison
from movl_monai.metrics.judged import Judged, judged_cases
from movl_monai.metrics.paired import compare_cases
from movl_monai.metrics.stored.cases import CASES_FILE
from movl_monai.report.sections.figures import evaluation_folder, figure_sections
from movl_monai.report.task import Task
from movl_monai.report.words import domain_of, is_tested

__all__ = ["SEGMENTATION", "Segmentation", "how_good", "how_sure", "on_change", "when_not_to_trust"]


class Segmentation(Task):
    """A class for each pixel of an image or volume, from logits (B, C, H, W) with softmax."""

    name = "segmentation"
    figures = MASK_FIGURES
    page = "segmentation"
    kind = "Segmentation report"
    goal = "Segmentation of"
    output = "One logit per class and pixel; the mask is the most probable class."
    per_pixel = True
    unit = "cases"
    results = CASES_FILE
    row_entries = ("id", "status", "reason")
    pipeline = "image-segmentation"

    def words(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sentences of the first screen."""
        here = report["id"]
        return {
            "here": how_good(here) if here else ["No test cases were evaluated."],
            "elsewhere": {name: [*how_good(part), *on_change(part, here)] for name, part in report["ood"].items()},
            "sure": how_sure(report),
            "outside": when_not_to_trust(report),
            "trust": {},
        }

    def page_values(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of its sections."""
        tested = {key: part for key, part in figure_sections(report).items() if is_tested(key)}
        return {"first_figures": ("dice", "sensitivity", "precision", "hd95"), "tested": tested}

    def judged(self, evaluation: Path, *, id_domain: str, figures: TaskFigures) -> dict[str, Judged]:
        """Read cases.csv by domain."""
        return judged_cases(evaluation / self.results, id_domain=id_domain, figures=figures.compared)

    def compare(
        self, run: Path, against: Path, *, report: Mapping[str, Any], name: str, **resampling: Any
    ) -> Comparison:
        """Compare the cases of two evaluations."""
        tested = [key for key in figure_sections(report) if is_tested(key)]
        domains = {key: report["id_domain"] if key == "id" else domain_of(key) for key in tested}
        return compare_cases(run, against, domains=domains, name=name, **resampling)

    def find_evaluation(self, run: Path) -> Path:
        """Return the folder with the report of a run."""
        return evaluation_folder(run)


def how_good(section: Mapping[str, Any]) -> list[str]:
    """Return sentences about one set of cases."""
    volumes = section["n_images"] > section["n"]
    what = _count(section["n"], "volume" if volumes else "image")
    what += f" ({_count(section['n_images'], 'slice')})" if volumes else ""
    patients = f" of {_count(section['n_patients'], 'patient')}" if section["n_patients"] else ""
    if section["dice"] is None:
        return [f"On {what}{patients} no Dice can be given."]
    interval = section["intervals"]["dice"]
    level = f"{100 * section['resampling']['level']:.0f} %"
    words = "No interval" if interval is None else f"{level} interval {interval[0]:.3f} to {interval[1]:.3f}"
    low, high = section["dice_quartiles"]
    sentences = [f"{words}; {what}{patients}."]
    if section["n"] > 1:
        middle = f"the middle one at {section['dice_median']:.3f}"
        sentences.append(f"Half of them lie between {low:.3f} and {high:.3f}, {middle}.")
    return sentences


def on_change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> list[str]:
    """Return a sentence about the difference to the in-distribution figure."""
    if here is None or here["dice"] is None or section["dice"] is None:
        return ["It cannot be compared with the in-distribution figure, because there is none."]
    points = section["dice"] - here["dice"]
    if abs(points) < 0.0005:
        return ["The mean Dice is the same as in the internal test."]
    return [f"The mean Dice is {abs(points):.3f} {'higher' if points > 0 else 'lower'} than in the internal test."]


def how_sure(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about the scope of the intervals."""
    section = next((part for part in (report["id"], *report["ood"].values()) if part), None)
    if section is None:
        return ["Nothing was evaluated."]
    draws = section["resampling"]
    if section["intervals"]["dice"] is None:
        return [f"Not at all: there is no interval from {_count(section['n'], 'case')}; see the notes."]
    unit = "patients (all cases of a patient together)" if draws["resampled"] == "patients" else draws["resampled"]
    sentences = [f"The intervals come from {draws['rounds']} resamples of the {unit}."]
    if draws["resampled"] != "patients":
        sentences.append("Patients are not known. If there are several cases per patient, they are too narrow.")
    return [*sentences, "Not covered: another training run, other scanners than those listed, wrong masks."]


def when_not_to_trust(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about the lack of warnings for poorly segmented cases."""
    found = [part for part in (report["id"], *report["ood"].values()) if part]
    quarter = any(part["n"] > 3 and part["dice"] is not None for part in found)
    return [
        *(["A quarter of the cases have a Dice below the lower end of that half."] if quarter else []),
        "Nothing in a mask tells that it is wrong, and images unlike those of training are not marked: every mask is "
        "to be looked at.",
    ]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


SEGMENTATION = Segmentation()
"""The task of segmenters."""
