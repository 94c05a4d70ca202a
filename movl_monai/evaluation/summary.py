"""The result of an evaluation in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["how_good_elsewhere", "how_good_here", "how_sure"]


def how_good_here(report: Mapping[str, Any]) -> list[str]:
    """Sentences on the in-distribution test images."""
    section = report["id"]
    if section is None or not section["n"]:
        return ["No labeled test images from the place it was trained for were evaluated."]
    guessing = f"Guessing would give {percent(1 / len(report['classes']))}."
    return [_on_images(section), _on_balance(section), guessing, _on_auroc(section)]


def how_good_elsewhere(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """For every other domain sentences on its images, with the distance to the in-distribution figure."""
    result = {}
    for name, section in report["ood"].items():
        if not section["n"]:
            result[name] = ["No labeled images."]
            continue
        result[name] = [_on_images(section), _on_balance(section), _on_change(section, report["id"])]
    return result


def how_sure(report: Mapping[str, Any]) -> list[str]:
    """Sentences on what the intervals cover, and what they do not."""
    section = next((part for part in (report["id"], *report["ood"].values()) if part and part["n"]), None)
    if section is None:
        return ["Nothing was evaluated."]
    draws = section["resampling"]
    level = percent(draws["level"], digits=0)
    unit = "patients (all images of a patient together)" if draws["resampled"] == "patients" else "images"
    sentences = [
        f"The {level} intervals come from {draws['rounds']} resamples of the {unit}: a test on other "
        f"{draws['resampled']} of the same kind would likely give a figure inside."
    ]
    if draws["resampled"] == "images":
        sentences.append(
            "Patients are not known. If there are several images per patient, the intervals are too narrow."
        )
    return [
        *sentences,
        "They do not cover another training run, other scanners than those listed, or wrong labels.",
    ]


def percent(value: float, *, digits: int = 1) -> str:
    """A share as text.

    Example:
        >>> percent(0.93456)
        '93.5 %'
    """
    return f"{100 * value:.{digits}f} %"


def range_of(interval: Sequence[float] | None, *, level: float) -> str:
    """An interval of shares in words; says so if there is none."""
    if interval is None:
        return "no interval"
    return f"{percent(level, digits=0)} interval {100 * interval[0]:.1f} to {percent(interval[1])}"


def _on_images(section: Mapping[str, Any]) -> str:
    patients = f" of {section['n_patients']} patients" if section["n_patients"] else ""
    level = section["resampling"]["level"]
    return (
        f"{percent(section['accuracy'])} of {section['n']} images{patients} were put into the right class "
        f"({range_of(section['intervals']['accuracy'], level=level)})."
    )


def _on_balance(section: Mapping[str, Any]) -> str:
    value = section["balanced_accuracy"]
    if value is None:
        return "An average over all classes cannot be given, because a class has no images here."
    words = range_of(section["intervals"]["balanced_accuracy"], level=section["resampling"]["level"])
    return f"With every class counted alike (balanced accuracy) it is {percent(value)} ({words})."


def _on_auroc(section: Mapping[str, Any]) -> str:
    if section["auroc"] is None:
        return "The area under the ROC curve cannot be given, because a class has no images here."
    interval = section["intervals"]["auroc"]
    words = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"The area under the ROC curve is {section['auroc']:.3f}{words}; 0.5 is guessing, 1 is perfect."


def _on_change(section: Mapping[str, Any], here: Mapping[str, Any] | None) -> str:
    for key, name in (("balanced_accuracy", "balanced accuracy"), ("accuracy", "share of right images")):
        if here and here[key] is not None and section[key] is not None:
            points = 100 * (section[key] - here[key])
            if abs(points) < 0.05:
                return f"The {name} is the same as here."
            return f"The {name} is {abs(points):.1f} points {'higher' if points > 0 else 'lower'} than here."
    return "It cannot be compared with the in-distribution figure, because there is none."
