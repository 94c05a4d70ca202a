"""Result of an evaluation in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.report.words import interval_words, percent

__all__ = ["calibration_words", "how_good_elsewhere", "how_good_here", "how_sure", "on_change"]


def how_good_here(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about the in-distribution test images."""
    section = report["id"]
    if section is None or not section["n"]:
        return ["No labeled test images from the place it was trained for were evaluated."]
    return [_on_balance(section, report), _on_images(section), _on_auroc(section)]


def how_good_elsewhere(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return sentences about the images of every other domain, with the difference to the in-distribution figure."""
    return {
        name: [_on_balance(section, report), on_change(section, report["id"]), _on_images(section)]
        if section["n"]
        else ["No labeled images."]
        for name, section in report["ood"].items()
    }


def how_sure(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about the scope of the intervals and about stated probabilities."""
    section = next((part for part in (report["id"], *report["ood"].values()) if part and part["n"]), None)
    if section is None:
        return ["Nothing was evaluated."]
    draws = section["resampling"]
    unit = "patients (all images of a patient together)" if draws["resampled"] == "patients" else "images"
    sentences = [
        f"With other {draws['resampled']} of the same kind the figures would likely lie in their "
        f"{percent(draws['level'], digits=0)} intervals, which come from {draws['rounds']} resamples of the {unit}."
    ]
    if draws["resampled"] == "images":
        sentences.append(
            "Patients are not known. If there are several images per patient, the intervals are too narrow."
        )
    uncovered = "Not covered: another training run, other scanners than those listed, wrong labels."
    return [*sentences, uncovered, *calibration_words(report)]


def calibration_words(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence about the calibration error, in-distribution and on other domains."""
    known = {"in the internal test": report["id"], **{f"on {name}": part for name, part in report["ood"].items()}}
    errors = {name: part["ece"] for name, part in known.items() if part and part.get("ece") is not None}
    if not errors:
        return []
    words = ", ".join(f"{100 * error:.1f} points {name}" for name, error in errors.items())
    return [f"Mean calibration error of the probabilities: {words}."]


def on_change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> str:
    """Return a sentence about the difference to the in-distribution figure."""
    for key, name in (("balanced_accuracy", "balanced accuracy"), ("accuracy", "share of right images")):
        if here and here[key] is not None and section[key] is not None:
            points = 100 * (section[key] - here[key])
            if abs(points) < 0.05:
                return f"The {name} is the same as in the internal test."
            change = f"{abs(points):.1f} points {'higher' if points > 0 else 'lower'}"
            return f"The {name} is {change} than in the internal test."
    return "It cannot be compared with the in-distribution figure, because there is none."


def _on_images(section: Mapping[str, Any]) -> str:
    patients = f" of {section['n_patients']} patients" if section["n_patients"] else ""
    return f"{percent(section['accuracy'])} of {section['n']} images{patients} were classified correctly."


def _on_balance(section: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    if section["balanced_accuracy"] is None:
        return "An average over all classes cannot be given, because a class has no images here."
    chance, interval = 1 / len(report["classes"]), section["intervals"]["balanced_accuracy"]
    words = interval_words(interval, level=section["resampling"]["level"])
    words = words[0].upper() + words[1:]
    return f"{words}; guessing gives {percent(chance)}."


def _on_auroc(section: Mapping[str, Any]) -> str:
    if section["auroc"] is None:
        return "The area under the ROC curve cannot be given, because a class has no images here."
    interval = section["intervals"]["auroc"]
    words = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"The area under the ROC curve is {section['auroc']:.3f}{words}; 0.5 is guessing, 1 is perfect."
