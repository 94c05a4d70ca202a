"""Figures of images and of segmented cases by patient group, and the gaps between groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from movl_monai.data.entries import natural_key
from movl_monai.metrics.declared import CLASS_FIGURES, MASK_FIGURES
from movl_monai.metrics.entries import (
    Group,
    GroupComparison,
    GroupFacts,
    GroupGap,
    Groups,
    Intervals,
    MainGap,
    MaskGroup,
    MaskGroups,
    MetricFigures,
)
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.stored.cases import Case
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.metrics.weighted import Metric, WeightedFigures

__all__ = ["GROUP_METRICS", "SMALL_BELOW", "group_figures", "group_report", "mask_groups"]

GROUP_METRICS: tuple[Metric, ...] = CLASS_FIGURES.leading  # type: ignore[assignment]
SMALL_BELOW = 20  # number of images, and of patients if they are known
_MANY = 12  # columns with more values should be put into bands
_FIGURES = MASK_FIGURES.leading


def group_report(
    sections: Mapping[str, StoredOutputs],
    *,
    columns: Sequence[str] | None = None,
    metrics: Sequence[Metric] = GROUP_METRICS,
    small_below: int = SMALL_BELOW,
    **resampling: Any,
) -> Groups:
    """Compute the figures of every group in every section, and the largest gap between two groups.

    Args:
        sections: images by section, with their groups; images without a label are left out.
        columns: names of the group columns; None takes all.
        metrics: figures; the gap of a section is that of the first metric with a value in two groups.
        small_below: number of images, and of known patients, below which a group is marked as small.
        resampling: ``rounds``, ``level`` and ``seed`` of the patient-clustered intervals.

    Returns:
        for each column, by section, the ``groups`` of :func:`group_figures` by value ("" for images without one);
        ``gaps``: for each section its ``gap``; ``notes`` of the column. Beside the columns general ``notes``.
    """
    names = list(dict.fromkeys(name for part in sections.values() for name in part.groups))
    wanted = names if columns is None else list(columns)
    result: Groups = {}
    notes = [
        f"There is no group {name!r}; there are: {', '.join(names) or 'none'}." for name in wanted if name not in names
    ]
    shown = [name for name in wanted if name in names]
    if shown:
        notes.append(
            f"Groups of fewer than {small_below} images or patients are marked as small. The gap is the largest of "
            "several, so part of it is chance even where its interval is not around 0."
        )
    for name in shown:
        groups: dict[str, dict[str, Group]] = {}
        gaps: dict[str, MainGap] = {}
        own: list[str] = []
        for section, part in sections.items():
            known = part.labeled()
            if not len(known) or name not in known.groups:
                own.append(f"{section}: no labeled images with this column.")
                continue
            found = group_figures(
                known.predictions, known.groups[name], metrics=metrics, small_below=small_below, **resampling
            )
            groups[section], gaps[section] = found["groups"], found["gap"]
            own += [f"{section}: {note}" for note in found["notes"]]
        # the key "notes" holds the notes of the report
        result["notes (column)" if name == "notes" else name] = {"gaps": gaps, "notes": own, **groups}
    return {**result, "notes": notes}


def group_figures(
    images: Predictions,
    values: Sequence[str],
    *,
    metrics: Sequence[Metric] = GROUP_METRICS,
    small_below: int = SMALL_BELOW,
    **resampling: Any,
) -> GroupComparison:
    """Compute the figures of every group of the same images, and the gaps, with common resamples of patients.

    Args:
        images: labeled images, (N,).
        values: group of each image, (N,); "" if it has none.
        metrics: figures.
        small_below: number of images, and of known patients, below which a group is marked as small.
        resampling: ``rounds``, ``level``, ``seed``.

    Returns:
        ``groups``: by value ``n``, ``n_patients`` (None if unknown), ``small``, each metric (None if undefined) and
        ``intervals``; ``gap``: ``metric``, ``largest`` (None without two groups that have a value), ``between`` (the
        better one first), ``interval``, ``small`` (whether a group of the gap is small, because there are not two
        others), ``notes``, and ``all``: the same for every metric; ``notes``.

    Raises:
        ValueError: if there is not one value per image.

    Example:
        >>> images = Predictions(ids=["0", "1", "2", "3"], labels=[0, 1, 0, 1], logits=np.eye(2)[[0, 1, 0, 0]])
        >>> found = group_figures(images, ["F", "F", "M", "M"], metrics=["accuracy"], rounds=10)
        >>> found["groups"]["M"]["accuracy"], found["gap"]["largest"], found["gap"]["between"]
        (0.5, 0.5, ['F', 'M'])
    """
    if len(values) != len(images):
        raise ValueError(f"Expected one value per image, got {len(values)} for {len(images)} images.")
    bootstrap = PatientBootstrap(len(images), images.patients, **resampling)
    rows = {value: np.flatnonzero(np.asarray(values) == value) for value in _sorted(values)}
    parts = {value: images.take(own) for value, own in rows.items()}
    figures = {value: WeightedFigures(part.labels, part.logits, metrics=metrics) for value, part in parts.items()}

    def of_groups(weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        return {
            (value, metric): drawn
            for value, figure in figures.items()
            for metric, drawn in figure(weights[rows[value]]).items()
        }

    once = {key: float(drawn[0]) for key, drawn in of_groups(np.ones((len(images), 1))).items()}
    facts = {value: _facts(part, small_below) for value, part in parts.items()}
    pairs: dict[str, tuple[str, str] | None] = {metric: _largest(once, facts, metric) for metric in metrics}
    intervals = bootstrap.intervals(_named(of_groups, pairs))
    groups: dict[str, Group] = {}
    for value, size in facts.items():
        numbers: MetricFigures = {}
        for metric in metrics:
            numbers[metric] = _number(once[value, metric])
        bounds: Intervals = {metric: intervals[_name(metric, value)] for metric in metrics}
        groups[value] = {**size, **numbers, "intervals": bounds}
    gaps: dict[str, GroupGap] = {metric: _gap(metric, pairs[metric], once, facts, intervals) for metric in metrics}
    main = next((gap for gap in gaps.values() if gap["largest"] is not None), gaps[metrics[0]])
    notes = [*_group_notes(facts, once, metrics), *bootstrap.notes]
    return {"groups": groups, "gap": {**main, "all": gaps}, "notes": notes}


def _named(
    of_groups: Callable[[np.ndarray], Mapping[tuple[str, str], np.ndarray]],
    pairs: Mapping[str, tuple[str, str] | None],
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function for the figures of groups and their gaps, keyed by the names used in notes."""

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = of_groups(weights)
        named = {_name(metric, value): values for (value, metric), values in drawn.items()}
        for metric, pair in pairs.items():
            if pair is not None:
                named[f"the gap in {metric}"] = drawn[pair[0], metric] - drawn[pair[1], metric]
        return named

    return figures


def _name(metric: str, value: str) -> str:
    return f"{metric} of {value!r}"


def _largest(
    once: Mapping[tuple[str, str], float], groups: Mapping[str, GroupFacts], metric: str
) -> tuple[str, str] | None:
    """Return the two groups that differ most, the better one first; small groups only if there are not two others."""
    valued = [value for value in groups if not np.isnan(once[value, metric])]
    large = [value for value in valued if not groups[value]["small"]]
    chosen = large if len(large) > 1 else valued
    pairs = [pair if once[pair[0], metric] >= once[pair[1], metric] else pair[::-1] for pair in combinations(chosen, 2)]
    return max(pairs, key=lambda pair: once[pair[0], metric] - once[pair[1], metric], default=None)


def _gap(
    metric: str,
    pair: tuple[str, str] | None,
    once: Mapping[tuple[str, str], float],
    groups: Mapping[str, GroupFacts],
    intervals: Intervals,
) -> GroupGap:
    if pair is None:
        why = [f"There are not two groups with a value of {metric}."]
        return {"metric": metric, "largest": None, "between": None, "interval": None, "small": False, "notes": why}
    small = any(groups[value]["small"] for value in pair)
    return {
        "metric": metric,
        "largest": once[pair[0], metric] - once[pair[1], metric],
        "between": list(pair),
        "interval": intervals[f"the gap in {metric}"],
        "small": small,
        "notes": ["There are not two groups that are not small."] if small else [],
    }


def _facts(part: Predictions, small_below: int) -> GroupFacts:
    patients = {patient for patient in part.patients if patient is not None}
    alone = sum(patient is None for patient in part.patients)  # each may be a separate patient
    small = len(part) < small_below or (bool(patients) and len(patients) + alone < small_below)
    return {"n": len(part), "n_patients": len(patients) or None, "small": small}


def _group_notes(
    groups: Mapping[str, GroupFacts], once: Mapping[tuple[str, str], float], metrics: Sequence[str]
) -> list[str]:
    notes = []
    if "" in groups:
        notes.append(f"{groups['']['n']} images tell no value; they are a group of their own.")
    if len(groups) > _MANY:
        notes.append(f"There are {len(groups)} values; put them into bands, such as '40-59', to have larger groups.")
    for metric in metrics:
        without = [repr(value) for value in groups if np.isnan(once[value, metric])]
        if without:
            notes.append(f"{metric} has no value in {', '.join(without)}: a class has no images there, or all of them.")
    return notes


def _sorted(values: Sequence[str]) -> list[str]:
    """Return the distinct values in natural order, the missing value last."""
    return sorted(set(values), key=lambda value: (value == "", natural_key(value), value))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def mask_groups(
    sections: Mapping[str, Sequence[Case]], *, small_below: int = SMALL_BELOW, **resampling: Any
) -> MaskGroups | None:
    """Compute the means of every group in every section, and the largest gap in Dice between two groups.

    Args:
        sections: cases by section.
        small_below: number of cases, and of known patients, below which a group is marked as small.
        resampling: ``rounds``, ``level``, ``seed`` of the patient-clustered intervals.

    Returns:
        None without a group column; else the layout of a classification's entry ``groups``, with the figures ``dice``,
        ``iou`` and ``hd95``: by column and section the groups by value ("" for a case without one), ``gaps`` and
            ``notes``.
    """
    columns = list(dict.fromkeys(name for part in sections.values() for case in part for name in case.groups))
    if not columns:
        return None
    result: MaskGroups = {"notes": [f"Groups of fewer than {small_below} cases or patients are marked as small."]}
    for name in columns:
        groups: dict[str, dict[str, MaskGroup]] = {}
        gaps: dict[str, GroupGap] = {}
        own: list[str] = []
        for key, cases in sections.items():
            if not any(name in case.groups for case in cases):
                own.append(f"{key}: no cases with this column.")
                continue
            values = [case.groups.get(name, "") for case in cases]
            groups[key], gaps[key], notes = _section(cases, values, small_below, resampling)
            own += [f"{key}: {note}" for note in notes]
        # the key "notes" holds the notes of the report
        result["notes (column)" if name == "notes" else name] = {"gaps": gaps, "notes": own, **groups}
    return result


def _section(
    cases: Sequence[Case], values: Sequence[str], small_below: int, resampling: Mapping[str, Any]
) -> tuple[dict[str, MaskGroup], GroupGap, list[str]]:
    figures = {name: np.array([case.mean(name) for case in cases]) for name in _FIGURES}
    rows = {value: np.asarray(values) == value for value in sorted(set(values), key=lambda value: (value == "", value))}
    means = {(value, name): _mean(figures[name][own]) for value, own in rows.items() for name in _FIGURES}
    facts = {
        value: _case_facts([cases[int(row)] for row in np.flatnonzero(own)], small_below) for value, own in rows.items()
    }
    pair = _furthest(means, facts)
    bootstrap = PatientBootstrap(len(cases), [case.patient for case in cases], unit="cases", **resampling)

    def drawn(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = {
            f"{name} of {value!r}": _weighted_mean(figures[name][own], weights[own])
            for value, own in rows.items()
            for name in _FIGURES
        }
        if pair is not None:
            found["the gap in dice"] = found[f"dice of {pair[0]!r}"] - found[f"dice of {pair[1]!r}"]
        return found

    intervals = bootstrap.intervals(drawn, why="a group had no case with a value")
    groups: dict[str, MaskGroup] = {
        value: {
            **size,
            "dice": means[value, "dice"],
            "iou": means[value, "iou"],
            "hd95": means[value, "hd95"],
            "intervals": {name: intervals[f"{name} of {value!r}"] for name in _FIGURES},
        }
        for value, size in facts.items()
    }
    if pair is None:
        why = ["There are not two groups with a Dice."]
        return (
            groups,
            {"metric": "dice", "largest": None, "between": None, "interval": None, "notes": why},
            bootstrap.notes,
        )
    small = any(facts[value]["small"] for value in pair)
    largest = (means[pair[0], "dice"] or 0.0) - (means[pair[1], "dice"] or 0.0)
    gap: GroupGap = {
        "metric": "dice",
        "largest": largest,
        "between": list(pair),
        "interval": intervals["the gap in dice"],
        "small": small,
        "notes": [],
    }
    return groups, gap, bootstrap.notes


def _furthest(
    means: Mapping[tuple[str, str], float | None], groups: Mapping[str, GroupFacts]
) -> tuple[str, str] | None:
    """Return the two groups that differ most in Dice, the better first; small groups only if not two others exist."""
    known = {value: mean for value in groups if (mean := means[value, "dice"]) is not None}
    large = [value for value in known if not groups[value]["small"]]
    chosen = large if len(large) > 1 else list(known)
    pairs = [(one, two) if known[one] >= known[two] else (two, one) for one, two in combinations(chosen, 2)]
    return max(pairs, key=lambda pair: known[pair[0]] - known[pair[1]], default=None)


def _case_facts(cases: Sequence[Case], small_below: int) -> GroupFacts:
    patients = {case.patient for case in cases if case.patient is not None}
    alone = sum(case.patient is None for case in cases)  # each may be a separate patient
    small = len(cases) < small_below or (bool(patients) and len(patients) + alone < small_below)
    return {"n": len(cases), "n_patients": len(patients) or None, "small": small}


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    total = weights[known].sum(axis=0)
    return np.divide(values[known] @ weights[known], total, out=np.full(len(total), np.nan), where=total > 0)
