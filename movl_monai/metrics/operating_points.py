"""Thresholds chosen for a target sensitivity or specificity, and their figures on other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.classification_metrics import UndefinedMetricError, softmax
from movl_monai.metrics.entries import OperatingFigures, OperatingPoint, OperatingPoints, Place, Target
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.stored.predictions import Predictions

__all__ = [
    "DEFAULT_TARGETS",
    "choose_balanced_threshold",
    "choose_threshold",
    "operating_figures",
    "operating_points_report",
]

TargetMetric = Literal["sensitivity", "specificity"]
DEFAULT_TARGETS: tuple[tuple[TargetMetric, float], ...] = (("sensitivity", 0.95), ("specificity", 0.95))
_FIGURES = ("sensitivity", "specificity", "ppv", "npv")


def choose_threshold(positive: ArrayLike, scores: ArrayLike, *, metric: TargetMetric, at_least: float) -> float:
    """Choose the threshold that reaches a target sensitivity or specificity and maximises the other one.

    An image is called positive if its score is at least the threshold. Both figures change only at scores of images, so
    the threshold is one of them: the largest that reaches the sensitivity, or the smallest that reaches the
    specificity. If only a threshold without positive calls reaches the specificity, it is the next number above all
    scores.

    Args:
        positive: bool (N,).
        scores: (N,), larger for positives.
        metric: "sensitivity" or "specificity".
        at_least: the target, in (0, 1].

    Raises:
        ValueError: for another metric, target or shape, or for NaN.
        UndefinedMetricError: if there are no positive images for a sensitivity, or no negative images for a
            specificity.

    Example:
        >>> choose_threshold([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9], metric="sensitivity", at_least=0.9)
        0.4
        >>> choose_threshold([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9], metric="specificity", at_least=0.9)
        0.9
    """
    truth, score = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if metric not in ("sensitivity", "specificity") or not 0 < at_least <= 1:
        raise ValueError(
            f"The target must be 'sensitivity' or 'specificity' of a number in (0, 1], got {metric!r} of {at_least}."
        )
    if truth.shape != score.shape or score.ndim != 1 or np.isnan(score).any():
        raise ValueError(f"positive and scores must be (N,) without NaN, got {truth.shape} and {score.shape}.")
    side = np.sort(score[truth if metric == "sensitivity" else ~truth])
    if not len(side):
        raise UndefinedMetricError(f"There are no {'positive' if metric == 'sensitivity' else 'negative'} images.")
    wanted = int(np.ceil(at_least * len(side) - 1e-9))  # number of images that must be on the correct side
    if metric == "sensitivity":
        return float(side[len(side) - wanted])
    above = score[score > side[wanted - 1]]
    return float(above.min()) if len(above) else float(np.nextafter(score.max(), np.inf))


def choose_balanced_threshold(positive: ArrayLike, scores: ArrayLike) -> float:
    """Choose the threshold with the largest sum of sensitivity and specificity (Youden's index).

    It lies halfway between two neighbouring scores, so that rounding moves no image across it; of several best ones it
    is the largest.

    Args:
        positive: bool (N,).
        scores: (N,), larger for positives.

    Raises:
        UndefinedMetricError: without positive or without negative images.

    Reference:
        Youden: Index for rating diagnostic tests, Cancer 3, 1950.

    Example:
        >>> choose_balanced_threshold([0, 1, 0, 1], [0.1, 0.8, 0.6, 0.9])
        0.7
    """
    truth, score = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    for found, word in ((truth.any(), "positive"), ((~truth).any(), "negative")):
        if not found:
            raise UndefinedMetricError(f"There are no {word} images.")
    distinct = np.unique(score)[::-1]
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    gained = np.cumsum(truth[order])[last] / truth.sum() - np.cumsum(~truth[order])[last] / (~truth).sum()
    best = int(np.flatnonzero(gained >= gained.max() - 1e-12)[0])
    low = distinct[best + 1] if best + 1 < len(distinct) else distinct[best]
    middle = float((distinct[best] + low) / 2)
    return middle if middle > low else float(distinct[best])


def operating_figures(
    positive: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute sensitivity, specificity, positive and negative predictive value; NaN if undefined.

    The predictive values hold only for the share of positives among these images.

    Args:
        positive: truth, bool (N,).
        called: images called positive, bool (N,).
        weights: (N, R) >= 0; None weights each image with 1.

    Returns:
        ``sensitivity``, ``specificity``, ``ppv``, ``npv``, (R,) each.
    """
    weight = np.ones((len(positive), 1)) if weights is None else weights
    parts = (positive & called, positive & ~called, ~positive & ~called, ~positive & called)
    tp, fn, tn, fp = (weight[part].sum(axis=0) for part in parts)
    pairs = {"sensitivity": (tp, fn), "specificity": (tn, fp), "ppv": (tp, fp), "npv": (tn, fn)}
    return {name: _share(right, wrong) for name, (right, wrong) in pairs.items()}


def operating_points_report(
    sections: Mapping[str, Predictions],
    *,
    class_names: Sequence[str],
    chosen_on: str = "val",
    targets: Sequence[tuple[TargetMetric, float]] = DEFAULT_TARGETS,
    ordered: bool = False,
    **resampling: Any,
) -> OperatingPoints:
    """Choose thresholds on one section, and compute their figures on every section.

    A threshold applies to the probability (raw logits) of one class against all others. With two classes only the
    second has points: a sensitivity of the first is a specificity of the second.

    Args:
        sections: images by section; images without a label are left out.
        class_names: names in the order of the logits.
        chosen_on: section that the thresholds are chosen on.
        targets: pairs of "sensitivity" or "specificity" and its smallest accepted value, in (0, 1].
        ordered: True for grades: the points are those of "k or more" for every grade but the first.
        resampling: ``rounds``, ``level`` and ``seed`` of the patient-clustered intervals.

    Returns:
        ``points``: for each class and target ``class``, ``target`` (``metric``, ``at_least``), ``threshold`` (None if
            it
        could not be chosen), ``chosen_on`` (``split``, ``n``), ``sections``: for each ``sensitivity``, ``specificity``,
        ``ppv``, ``npv`` (None if undefined), ``n_positive``, ``n_negative``, ``intervals``; and its own ``notes``;
        general ``notes``.

    Raises:
        ValueError: for an impossible target.
    """
    known = {name: images.labeled() for name, images in sections.items()}
    notes = [f"{name}: no labeled images." for name, images in known.items() if not len(images)]
    known = {name: images for name, images in known.items() if len(images)}
    place: Place = {"split": chosen_on, "n": len(known[chosen_on]) if chosen_on in known else 0}
    if chosen_on not in known:
        notes.append(f"No operating points: there are no labeled images in '{chosen_on}'.")
        return {"points": [], "notes": notes}
    notes.append(f"{chosen_on}: the thresholds were chosen on these images; what they reach here is not a test result.")
    notes.append("ppv and npv are those at the share of positives in each section; elsewhere they are others.")
    points = [
        _point(known, question, target, place, resampling)
        for question in _questions(class_names, ordered)
        for target in targets
    ]
    return {"points": points, "notes": notes}


class _Question(NamedTuple):
    """Classes that count as positive, with a name."""

    name: str
    classes: slice

    def of(self, images: Predictions) -> tuple[np.ndarray, np.ndarray]:
        """Return the positive images and their probability, (N,) each."""
        places = np.zeros(images.logits.shape[1], dtype=bool)
        places[self.classes] = True
        return places[images.labels], softmax(images.logits)[:, places].sum(axis=1)


def _questions(class_names: Sequence[str], ordered: bool) -> list[_Question]:
    if ordered:
        return [_Question(f"{name} or more", slice(index, None)) for index, name in enumerate(class_names) if index]
    first = 1 if len(class_names) == 2 else 0
    return [_Question(str(class_names[index]), slice(index, index + 1)) for index in range(first, len(class_names))]


def _point(
    known: Mapping[str, Predictions],
    question: _Question,
    target: tuple[TargetMetric, float],
    place: Place,
    resampling: Mapping[str, Any],
) -> OperatingPoint:
    notes: list[str] = []
    threshold = _threshold(known[place["split"]], question, *target, notes)
    aim: Target = {"metric": target[0], "at_least": float(target[1])}
    sections = {} if threshold is None else _at(known, question, threshold, notes, resampling)
    return {
        "class": question.name,
        "target": aim,
        "threshold": threshold,
        "chosen_on": place.copy(),
        "sections": sections,
        "notes": notes,
    }


def _threshold(
    images: Predictions, question: _Question, metric: TargetMetric, at_least: float, notes: list[str]
) -> float | None:
    positive, score = question.of(images)
    try:
        threshold = choose_threshold(positive, score, metric=metric, at_least=at_least)
    except UndefinedMetricError as reason:
        notes.append(f"No threshold: {reason}")
        return None
    count = int(positive.sum() if metric == "sensitivity" else (~positive).sum())
    if at_least < 1 and count * (1 - at_least) < 1 - 1e-9:
        enough = int(np.ceil(1 / (1 - at_least) - 1e-9))
        notes.append(f"It was chosen on {count} images, which cannot tell {at_least:g} from 1; {enough} could.")
    if threshold > score.max():
        notes.append("It is reached only by calling nothing positive.")
    return threshold


def _at(
    known: Mapping[str, Predictions],
    question: _Question,
    threshold: float,
    notes: list[str],
    resampling: Mapping[str, Any],
) -> dict[str, OperatingFigures]:
    result: dict[str, OperatingFigures] = {}
    for name, images in known.items():
        positive, score = question.of(images)
        called = score >= threshold
        bootstrap = PatientBootstrap(len(images), images.patients, **resampling)
        intervals = bootstrap.intervals(
            lambda weights, one=positive, two=called: operating_figures(one, two, weights),  # type: ignore[misc]
            why="there was nothing to divide by",
        )
        # the section itself already notes that patients are unknown
        gaps = [note for note in bootstrap.notes if "resamples" in note or "No intervals" in note]
        notes.extend(f"{name}: {note}" for note in gaps)
        whole = operating_figures(positive, called)
        values = {figure: None if np.isnan(whole[figure][0]) else float(whole[figure][0]) for figure in _FIGURES}
        if missing := [figure for figure, value in values.items() if value is None]:
            notes.append(f"{name}: no value for {', '.join(missing)}; there is nothing to divide by.")
        result[name] = {
            "sensitivity": values["sensitivity"],
            "specificity": values["specificity"],
            "ppv": values["ppv"],
            "npv": values["npv"],
            "n_positive": int(positive.sum()),
            "n_negative": int((~positive).sum()),
            "intervals": intervals,
        }
    return result


def _share(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    total = right + wrong
    return np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)
