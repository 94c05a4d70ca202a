"""All figures of one set of images, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics import classification_metrics as metrics
from movl_monai.metrics.classification_metrics import UndefinedMetricError, check_labeled
from movl_monai.metrics.declared import CLASS_FIGURES, Declared, LabeledScores, MetricFigures, TaskFigures
from movl_monai.metrics.entries import ClassFigures, ClassificationFigures, SectionFigures

__all__ = ["classification_figures", "section_figures"]


def classification_figures(
    labels: ArrayLike, logits: ArrayLike, *, class_names: Sequence[str]
) -> ClassificationFigures:
    """Compute every figure of the report for one set of images.

    An undefined figure (a class without images, images of one class) is None, and ``notes`` gives the reason.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        class_names: the C names in the order of the logits.

    Returns:
        ``n``, ``accuracy``, ``balanced_accuracy``, ``auroc``, ``average_precision`` (both macro, one against the rest),
        both also as ``_weighted`` (classes weighted by their number of images), ``quadratic_kappa``, ``cross_entropy``,
        ``brier``, ``ece``; ``per_class``: for each name ``n``, ``sensitivity``, ``specificity``, ``auroc``,
        ``average_precision``; ``confusion_matrix``: label by predicted class; ``notes``.

    Raises:
        ValueError: if shapes, labels and class names do not match.
        NonFiniteLogitsError: if a logit is NaN or infinite.

    Example:
        >>> figures = classification_figures([0, 0, 0], [[2.0, 1.0], [1.0, 0.0], [0.0, 1.0]], class_names=["no", "yes"])
        >>> figures["n"], round(figures["accuracy"], 3), figures["auroc"]
        (3, 0.667, None)
    """
    figures, notes = section_figures(labels, logits, class_names=class_names)
    return {**figures, "notes": notes}


def section_figures(
    labels: ArrayLike, logits: ArrayLike, *, class_names: Sequence[str], figures: TaskFigures = CLASS_FIGURES
) -> tuple[SectionFigures, list[str]]:
    """Return the figures of :func:`classification_figures`, or of another task that gives a class, and their notes."""
    label, score = check_labeled(labels, logits)
    if len(class_names) != score.shape[1]:
        raise ValueError(f"Expected {score.shape[1]} class names for as many logits, got {len(class_names)}.")
    probability, predicted = metrics.softmax(score), figures.decide(score)
    chosen = np.eye(score.shape[1])[predicted]
    classes = {
        "sensitivity": metrics.sensitivity_per_class(label, chosen),
        "specificity": metrics.specificity_per_class(label, chosen),
        "auroc": metrics.auroc_per_class(label, probability),
        "average_precision": metrics.average_precision_per_class(label, probability),
    }
    counts = np.bincount(label, minlength=len(class_names))
    images = LabeledScores(
        labels=label,
        logits=score,
        probabilities=probability,
        predicted=predicted,
        chosen=chosen,
        counts=counts,
        **classes,
    )
    notes = _missing_classes(label, classes, class_names)
    values: MetricFigures = {}
    for name, figure in figures.declared.items():
        if isinstance(figure, Declared):
            values[name] = _value(figure, images, name, notes)  # type: ignore[literal-required]
    per_class: dict[str, ClassFigures] = {
        str(name): {
            "n": int(counts[index]),
            "sensitivity": _number(classes["sensitivity"][index]),
            "specificity": _number(classes["specificity"][index]),
            "auroc": _number(classes["auroc"][index]),
            "average_precision": _number(classes["average_precision"][index]),
        }
        for index, name in enumerate(class_names)
    }
    matrix = metrics.confusion_matrix(label, chosen).tolist()
    return {"n": len(label), **values, "per_class": per_class, "confusion_matrix": matrix}, notes


def _value(figure: Declared, images: LabeledScores, name: str, notes: list[str]) -> float | None:
    try:
        return _number(figure.function(images))
    except UndefinedMetricError as reason:
        notes.append(f"{name} is not given: {reason}")
        return None


def _missing_classes(label: np.ndarray, classes: dict[str, np.ndarray], class_names: Sequence[str]) -> list[str]:
    """Return a note that names the classes without images and gives the means over the others."""
    present = np.unique(label)
    if len(present) in (0, len(class_names)):
        return []
    names = ", ".join(str(name) for index, name in enumerate(class_names) if index not in present)
    note = f"No images of the class {names}; over the {len(present)} classes present, "
    note += f"the mean sensitivity is {classes['sensitivity'][present].mean():.4f}"
    if len(present) > 1:
        note += f" and the mean AUROC {classes['auroc'][present].mean():.4f}"
    return [note + "."]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
