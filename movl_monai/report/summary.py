"""Result of a classification's evaluation in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.report.words import interval_words, percent

__all__ = ["how_good_elsewhere", "how_good_here", "how_sure", "on_change", "on_images"]


def how_good_here(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about the in-distribution test images."""
    section = report["id"]
    if section is None or not section["n"]:
        return ["No labeled test images from the place it was trained for were evaluated."]
    return [_on_balance(section, report), on_images(section)]


def how_good_elsewhere(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return sentences about the images of every other domain, with the difference to the in-distribution figure."""
    return {
        name: [_on_balance(section, report), on_change(section, report["id"]), on_images(section)]
        if section["n"]
        else ["No labeled images."]
        for name, section in report["ood"].items()
    }


def how_sure(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about the scope of the intervals."""
    section = next((part for part in (report["id"], *report["ood"].values()) if part and part["n"]), None)
    if section is None:
        return ["Nothing was evaluated."]
    draws = section["resampling"]
    unit = "patients (all images of a patient together)" if draws["resampled"] == "patients" else "images"
    sentences = [f"The intervals come from {draws['rounds']} resamples of the {unit}."]
    if draws["resampled"] == "images":
        sentences.append(
            "Patients are not known. If there are several images per patient, the intervals are too narrow."
        )
    return [*sentences, "Not covered: another training run, other scanners than those listed, wrong labels."]


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


def on_images(section: Mapping[str, Any]) -> str:
    """Return the numbers of images and patients as a sentence."""
    patients = f" of {section['n_patients']} patients" if section["n_patients"] else ", of unknown patients"
    return f"{section['n']} images{patients}."


def _on_balance(section: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    level, intervals = section["resampling"]["level"], section["intervals"]
    if section["balanced_accuracy"] is None:
        reason = "An average over all classes cannot be given, because a class has no images here."
        return f"{_capital(interval_words(intervals['accuracy'], level=level))}. {reason}"
    words = interval_words(intervals["balanced_accuracy"], level=level)
    return f"{_capital(words)}; guessing gives {percent(1 / len(report['classes']))}."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
